"""What a GPU is worth most for, in order: ``python -m labbook gpu --minutes 12`` trains what is missing, and stops in time.

Each network is trained by ``python -m advlab train`` in a process of its own, which writes its state after each epoch; the
spheres' networks, a million small steps each, are trained by :func:`spheres`, all at once. When the minutes are over what still
runs is stopped, and loses at most an epoch; the same command goes on from there, also on another machine to which the folder
was copied. Needed are the package, the full CIFAR-10 (``python -m advlab data cifar10``), and the folder. With seven jobs at a
time an H100 trained the first six in 283 seconds and the spheres' three beside them in 576.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from advlab import checks, zoo
from advlab.store import write
from advlab.training import binary_cross_entropy, unfinished

#: Chapter 1's networks of the paper's million updates, trained together.
SPHERES = tuple(f"sphere_relu_million_{seed}" for seed in range(3))
#: By value: chapter 4's targets and sources at the paper's width, chapter 1's and 2's networks, chapter 3's photographs.
ORDER = (
    *("full_target", "full_mask_50", "full_mask_70", "full_mask_90", "full_resnet18", "full_vgg"),
    *SPHERES,
    *("full_mask_50_b", "full_mask_70_b", "full_densenet", "full_resnet50"),
    *("cifar_2_long", "cifar_8_long", "cifar_cnn_long"),
)
TO_SPARE = 20.0  #: seconds at the end, in which nothing is begun


class _Job:
    """A training in a process of its own, begun now; ``names`` are the networks it writes."""

    def __init__(self, names: list[str], command: list[str]) -> None:
        self.names, self.begun = names, time.monotonic()
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by end()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.errors)

    def end(self) -> str:
        """Stop it, if it runs; returns the last line of its errors."""
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        self.errors.close()
        return said[-1] if said else "failed"


_Command = tuple[list[str], list[str]]  #: names, and what trains them


def _commands(names: Sequence[str], folder: Path, device: str, epochs: int | None, n: int | None) -> list[_Command]:
    sizes = {"--epochs": epochs, "--n": n}
    trial = [word for option, value in sizes.items() if value is not None for word in (option, str(value))]
    made: list[_Command] = []
    together = [name for name in names if name in SPHERES]
    for name in names:
        if name not in together:
            made.append(([name], ["-m", "advlab", "train", name, "--to", str(folder), "--device", device, *trial]))
        elif name == together[0]:
            call = f"from labbook import gpu; gpu.spheres({together}, {str(folder)!r}, device={device!r}, samples={n})"
            made.append((together, ["-c", call]))
    return [(each, [sys.executable, *command]) for each, command in made]


def run(
    minutes: float,
    to: str | Path = "runs",
    *,
    device: str = "cuda",
    names: Sequence[str] = ORDER,
    jobs: int = 1,
    epochs: int | None = None,
    n: int | None = None,
) -> Iterator[str]:
    """Train what ``to`` does not have of ``names`` in ``minutes``; a line for each, as it is done, stopped, or left.

    Parameters
    ----------
    minutes : wall time, above 0
    to : the folder of checkpoints, cards and unfinished states
    device : "cuda", or "cpu" for a trial
    names : in this order
    jobs : so many at a time; one training alone leaves much of a large GPU idle
    epochs, n : as of :func:`advlab.zoo.train`, for a trial

    Raises
    ------
    ValueError
        for minutes that are not above 0, for jobs, epochs or n below 1, and a name that is there twice
    RuntimeError
        where torch finds no GPU, and "cuda" is asked for; at the end, where a training failed
    """
    if not minutes > 0:
        raise ValueError(f"minutes is {minutes}; it must be above 0")
    for name, value in (("jobs", jobs), ("epochs", epochs), ("n", n)):
        checks.setting(name, 1 if value is None else value, checks.COUNT)
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is there twice: two trainings would write the same files")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU; --device cpu --epochs 1 --n 500 is a trial")
    end, folder = time.monotonic() + 60 * minutes, Path(to)
    spare = min(TO_SPARE, 6 * minutes)
    missing = [name for name in names if not (folder / f"{name}.json").exists()]
    yield from (f"{name}: there already" for name in names if name not in missing)
    waiting, failed = _commands(missing, folder, device, epochs, n), []
    running: list[_Job] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs and end - time.monotonic() > spare:
                running.append(_Job(*waiting.pop(0)))
            if time.monotonic() > end or not running:
                break
            time.sleep(0.2)
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                code, said, names_of = job.process.returncode, job.end(), ", ".join(job.names)
                failed += [f"{names_of}: {said}"] if code else []
                yield f"{names_of}: " + ("failed" if code else f"trained in {time.monotonic() - job.begun:.0f} s")
    finally:
        for job in running:
            job.end()
    for name in (name for job in running for name in job.names):
        kept = (folder / f"{name}.unfinished.safetensors").exists()
        yield f"{name}: stopped; " + ("the same command goes on from its last epoch" if kept else "no epoch was finished")
    yield from (f"{name}: not begun" for each, _ in waiting for name in each)
    if failed:
        raise RuntimeError("; ".join(failed))


# ---------------------------------------------------------------------------------------------- chapter 1's networks

_D, _INNER, _OUTER = 500, 1.0, 1.3
_AT_ONCE = 100  #: steps in a captured graph


def _sphere_batch(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """As :func:`advlab.spheres.concentric_spheres`, drawn where the generator is."""
    place = {"generator": generator, "device": generator.device}
    y = torch.rand(n, **place) < 0.5
    x = nn.functional.normalize(torch.randn(n, _D, **place))
    return x * torch.where(y, _OUTER, _INNER)[:, None], y.float()


@dataclass
class _Sphere:
    """One network in training: its steps, on a GPU as one graph of :data:`_AT_ONCE` of them on a stream of its own."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    batch_size: int

    def steps(self, count: int) -> None:
        for _ in range(count):
            x, y = _sphere_batch(self.batch_size, self.generator)
            self.optimiser.zero_grad()
            binary_cross_entropy(self.model, x, y).backward()
            self.optimiser.step()

    def capture(self) -> Callable[[], Any]:
        """The call of :data:`_AT_ONCE` steps; on a GPU as many are taken for warming up, before they are recorded."""
        if self.generator.device.type != "cuda":
            return lambda: self.steps(_AT_ONCE)
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.steps(_AT_ONCE)
        torch.cuda.synchronize()
        graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph, stream=stream):
            self.steps(_AT_ONCE)

        def replay() -> None:
            with torch.cuda.stream(stream):
                graph.replay()

        return replay

    def save(self, path: Path, done: int) -> None:
        """What a later run needs: the network, the optimiser's state, and how many steps were taken."""
        tensors = {f"model.{key}": t for key, t in self.model.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": t for key, t in state.items()}
        write(path, save_tensors({key: t.cpu().contiguous() for key, t in tensors.items()}, {"done": str(done)}))

    def load(self, path: Path) -> int:
        """The state of :meth:`save`; returns how many steps it has taken."""
        done, weights, states = unfinished(path, "done")
        self.model.load_state_dict(weights)
        self.optimiser.load_state_dict({"state": states, "param_groups": self.optimiser.state_dict()["param_groups"]})
        return done


_KEPT_EVERY = 50_000  #: steps


def spheres(names: Sequence[str], to: str | Path, *, device: str = "cuda", samples: int | None = None) -> None:
    """Train chapter 1's networks of the paper's million updates, all of ``names`` at once, and write them into ``to``.

    The recipe's loss, batches and rate; ``samples`` shortens it for a trial. Points are drawn on the device, from other
    random numbers than :func:`advlab.training.fit_online` takes. A run that is broken off goes on from its last 50,000.
    """
    checks.setting("samples", 1 if samples is None else samples, checks.COUNT)
    folder = Path(to)
    folder.mkdir(parents=True, exist_ok=True)
    wall, cpu, commit, made = time.perf_counter(), time.process_time(), zoo.source_commit(), []
    states = [folder / f"{name}.unfinished.safetensors" for name in names]
    recipes = [zoo.recipe(name) for name in names]
    total = max(_AT_ONCE, (samples or 50_000_000) // recipes[0].batch_size)
    resumed, done = all(state.exists() for state in states), 0
    for r, state in zip(recipes, states, strict=True):
        torch.manual_seed(r.seed)
        model = r.build().to(device).train()
        fused = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True, capturable=device != "cpu")
        made.append(_Sphere(model, fused, torch.Generator(device), r.batch_size))
        done = made[-1].load(state) if resumed else 0
        made[-1].generator.manual_seed(r.seed + 1000 * done)
    replays = [each.capture() for each in made]
    done += _AT_ONCE * (device != "cpu")  # those of the capture
    while done < total:
        for replay in replays:
            replay()
        done += _AT_ONCE
        if device != "cpu" and done % (50 * _AT_ONCE) == 0:
            torch.cuda.synchronize()  # not too far ahead of the GPU
        if done % _KEPT_EVERY == 0:
            for each, state in zip(made, states, strict=True):
                each.save(state, done)
    about = {"seconds": round(time.perf_counter() - wall, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    about |= {
        "epochs": 1 if samples else recipes[0].epochs,
        "resumed": resumed,
        "commit": commit,
        "command": "python -m labbook gpu",
    }
    for name, each, state in zip(names, made, states, strict=True):
        if device != "cpu":
            torch.cuda.synchronize()
        zoo.keep(name, each.model.eval(), folder, about | {"training_examples": done * each.batch_size})
        state.unlink(missing_ok=True)
