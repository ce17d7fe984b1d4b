"""Command line:  python -m advlab data|train|detect|verify|check|zoo ..."""

import argparse
import json
import math
import runpy
import sys
from collections.abc import Callable
from fractions import Fraction
from importlib import util
from pathlib import Path
from typing import Any

#: Commands of the book, which a reader may type here too.
_OF_THE_BOOK = ("reproduce", "examples", "trainings", "transfer", "game", "gpu")
#: What verify ends with: the first of these that any verdict is, or "robust".
_STATUS = {"counterexample": 10, "unknown": 20, "robust": 0}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] and argv[0] in _OF_THE_BOOK:
        return _book(argv)
    args = _parser().parse_args(argv)
    run = {"data": _data, "train": _train, "detect": _detect, "verify": _verify, "check": _check, "zoo": _zoo}
    return answered("advlab", run[args.command], args)


def answered(program: str, command: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """The exit status of a command; a mistake in what it was given is a line of text and 1."""
    try:
        return command(args)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except (RuntimeError, ValueError, TypeError, OSError, ImportError) as e:
        print(f"{program}: error: {' '.join(str(e).splitlines()) or type(e).__name__}", file=sys.stderr)
        return 1


def unused(args: argparse.Namespace, form: str, *options: str) -> None:
    """End with a usage error, status 2, where an option is given that this form of the command does not use."""
    for option in options:
        if vars(args)[option] is not None and vars(args)[option] is not False:
            args.error(f"--{option} is not used {form}: leave it out")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m advlab",
        description="The Adversarial Lab's library.",
        epilog="python -m labbook reproduce|examples|transfer measures the book's numbers.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("data", help="fetch a full data set (CIFAR-10; MNIST ships)")
    p.add_argument("name", nargs="?", choices=("mnist", "cifar10"), default="cifar10")
    p.add_argument("--to", metavar="DIR", help="folder for it (default: $ADVLAB_DATA, or the user's cache)")
    p = commands.add_parser("train", help="train a network of the zoo by its recipe; run again to resume")
    p.add_argument("name", help="see  python -m advlab zoo")
    p.add_argument("--to", metavar="DIR", default="runs", help="folder for the checkpoint and its card (default: runs)")
    p.add_argument("--epochs", type=int, help="fewer epochs, for a trial")
    p.add_argument("--n", type=int, help="fewer training examples, for a trial")
    p.add_argument("--threads", type=count, help="threads for torch (default: torch's choice)")
    p.add_argument("--device", default="cpu", help="where it is trained, such as cuda (default: cpu)")
    p = commands.add_parser("detect", help="chapter 2's detector on a folder of images; run again to go on")
    p.add_argument("folder", help="images, one subfolder a class or with --labels; transparent ones are put on white")
    p.add_argument(
        "--network", required=True, help="lite0 or mobilenet, of ImageNet; or module:function, a network from [0, 1] to logits"
    )
    p.add_argument("--weights", metavar="FILE", help="of mobilenet, which come with no package")
    p.add_argument("--size", type=count, default=224, help="side of the network's input (default: 224)")
    p.add_argument("--n", type=count, help="take so many images, in an order mixed with a fixed seed (default: all)")
    p.add_argument("--store", metavar="FILE", default="runs/detect.sqlite", help="what was found (default: runs/detect.sqlite)")
    _add_labels(p)
    p = commands.add_parser("verify", help="chapter 3's exact verifier; 10 is returned for a counterexample, 20 for unknown")
    _add_questions(p)
    p = commands.add_parser("check", help="check proofs of verdicts; 0 is returned where all are valid, else 1")
    p.add_argument("files", nargs="+", metavar="FILE.proof")
    p.add_argument("--weights", metavar="FILE.safetensors", help="the network's (default: found among those that ship)")
    commands.add_parser("zoo", help="list the networks and their measured accuracy")
    return parser


def _add_questions(p: argparse.ArgumentParser) -> None:
    p.set_defaults(error=p.error)
    p.add_argument("name", help="a network of the zoo, NET.onnx, or module:function; run again to go on")
    p.add_argument("property", nargs="?", metavar="SPEC.vnnlib", help="of NET.onnx: the property instead of images")
    p.add_argument("--eps", type=_budget, help="the budget in linf, such as 0.1 or 2/255")
    p.add_argument("--images", type=_images, help="so many test images, or a folder of images (default: 100)")
    _add_labels(p)
    p.add_argument("--shape", type=_shape, help="of one input of module:function, such as 1x28x28")
    p.add_argument("--json", action="store_true", help="a line of JSON for each verdict instead of a text")
    p.add_argument("--from", metavar="DIR", help="a folder of your own trainings (default: what ships)")
    p.add_argument("--store", metavar="FILE", help="where verdicts are kept (default: runs/NAME-EPS.sqlite)")
    p.add_argument("--proofs", metavar="DIR", help="where proofs are kept, for check (default: none are made)")
    p.add_argument("--time-limit", type=positive, default=120.0, help="CPU seconds an image (default: 120, the paper's)")
    p.add_argument("--solver", choices=("highs", "gurobi"), default="highs", help="for the last stage (default: highs)")
    p.add_argument("--workers", type=count, help="processes on this machine (default: 1, this one)")
    p.add_argument("--scheduler", metavar="tcp://...", help="a Dask scheduler instead; needs advlab[cluster]")


def _book(argv: list[str]) -> int:
    """``python -m labbook`` with these arguments, where the book is."""
    if util.find_spec("labbook") is None:
        print(f"advlab: {argv[0]} is a command of the book: pip install -e . in a checkout of it", file=sys.stderr)
        return 1
    return runpy.run_module("labbook.__main__")["main"](argv)


def _add_labels(p: argparse.ArgumentParser) -> None:
    p.add_argument("--classes", metavar="FILE", help="class names, one a line (default: the subfolders in their order)")
    p.add_argument("--labels", metavar="FILE", help="lines image,label for images whose subfolders are no classes")


def _budget(text: str) -> float:
    try:
        eps = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        eps = -1.0
    if eps < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no budget; give a number such as 0.1 or 2/255")
    return eps


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split("x")
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; give numbers from 1 up with x between, such as 1x28x28")
    return tuple(map(int, sizes))


def count(text: str) -> int:
    """A number from 1 up, of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def positive(text: str) -> float:
    """A number above 0, of an option."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def _images(text: str) -> int | Path:
    try:
        return count(text)
    except argparse.ArgumentTypeError as e:
        if Path(text).is_dir():
            return Path(text)
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 1 up nor a folder") from e


def _data(args: argparse.Namespace) -> int:
    from . import data

    print(f"{args.name} is in {data.fetch(args.name, args.to)}")
    return 0


def _train(args: argparse.Namespace) -> int:
    import torch

    from . import zoo

    if args.threads:
        torch.set_num_threads(args.threads)
    path = zoo.train(args.name, args.to, epochs=args.epochs, n=args.n, device=args.device)
    about = zoo.card(args.name, args.to)
    print(f"{path}: accuracy {about['accuracy']:.2%} on {about['test_examples']:,} test examples, {about['seconds']:.0f} s")
    return 0


def _detect(args: argparse.Namespace) -> int:
    from . import folders, imagenet
    from .squeezing import folder

    known = args.network in imagenet.NETWORKS
    if args.weights is not None and not known:
        raise ValueError(f"--weights is for {' and '.join(imagenet.NETWORKS)}; a function loads its own")
    if not known and ":" not in args.network:
        raise ValueError(f"there is no network {args.network!r}: give {', '.join(imagenet.NETWORKS)} or module:function")
    net = imagenet.load(args.network, args.weights) if known else folder.network(args.network)
    labels = imagenet.labels if known else folders.labels
    options = {"classes": args.classes, "table": args.labels, "labels": labels, "store": args.store}
    values, notes = folder.report(net, args.folder, args.size, args.n, **options)
    for note in notes:
        print(note, file=sys.stderr)
    for name, value in values.items():
        print(f"{name:26} {value:.{0 if name == 'images' else 4}f}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    import torch

    from . import work
    from .verification import Store, verify_dataset, verify_files

    torch.set_num_threads(1)
    options = {"time_limit": args.time_limit, "solver": args.solver}
    if args.property is not None:
        if args.eps is not None or not args.name.endswith(".onnx"):
            raise ValueError(f"{args.property} holds the inputs and is of a network in a file: verify NET.onnx SPEC.vnnlib")
        inputs = ("images", "classes", "labels", "shape", "from", "store", "proofs", "workers", "scheduler")
        unused(args, f"with the property {args.property}", *inputs)
        verdict = verify_files(args.name, args.property, **options)
        if args.json:
            _json_lines([({"network": args.name, "property": args.property}, verdict)])
        else:
            print(f"{args.name}, {args.property}: {verdict.status} ({verdict.stage}, {verdict.seconds:.2f} CPU seconds)")
        return _STATUS[verdict.status]
    if args.eps is None:
        raise ValueError("the budget is missing: --eps 0.1 or 2/255")
    if args.scheduler is not None:
        unused(args, "with a scheduler", "workers")
    net, x, y, names = _questions(args)
    store = Path(args.store or f"runs/{Path(args.name.replace(':', '-')).stem}-{args.eps:g}.sqlite")
    if (old := store.with_suffix(".jsonl")).exists() and not store.exists():  # of versions before there was a store
        Store(store).records.take(old)
    with work.workers(args.workers or 1, args.scheduler) as lanes:
        found = verify_dataset(net, x, y, args.eps, executor=lanes, store=store, proofs=args.proofs, **options)
    status = next((code for status, code in _STATUS.items() if found.count(status)), 0)
    if args.json:
        about = {"network": args.name, "eps": args.eps}
        labelled = zip(names, y.tolist(), found.verdicts, strict=True)
        _json_lines([(about | {"input": name, "label": label}, verdict) for name, label, verdict in labelled])
        return status
    seconds = found.seconds()
    low, high = found.interval
    print(f"{args.name}, linf {args.eps:g}, {len(found)} images: {found.provable:.2%} proved robust ({low:.2%} to {high:.2%}),")
    print(f"{found.upper:.2%} not broken; {found.count('unknown')} unknown. Decided by: {found.stages}")
    if args.proofs is not None:
        grades = [f"{count} {status} {grade}" for (status, grade), count in sorted(found.grades.items()) if grade]
        print(f"{', '.join(grades)}; the proofs are in {args.proofs}")
    if len(seconds):
        print(f"CPU seconds an image: mean {seconds.mean():.3f}, median {sorted(seconds)[len(seconds) // 2]:.3f}, ", end="")
        print(f"most {seconds.max():.2f}. The verdicts are in {store}")
    return status


def _json_lines(found: list[tuple[dict[str, Any], Any]]) -> None:
    """What was asked and its verdict, a line each; a bound that is not known is null, a witness is flat."""
    for about, verdict in found:
        line = about | {name: getattr(verdict, name) for name in ("status", "stage", "bound", "seconds")}
        line["bound"] = line["bound"] if math.isfinite(line["bound"]) else None
        line["witness"] = None if verdict.witness is None else verdict.witness.flatten().tolist()
        print(json.dumps(line))


def _check(args: argparse.Namespace) -> int:
    from . import zoo
    from .verification.check import Weights, check

    candidates = [args.weights] if args.weights is not None else sorted(zoo.shipped().glob("*.safetensors"))
    first = Weights(candidates.pop(0))
    known, right = {first.sha256: first}, 0
    for file in args.files:
        answer = check(file, first)
        if answer.reason.startswith("the weights are not those"):
            wanted = str(answer.claim["network"]["sha256"])
            while wanted not in known and candidates:
                weights = Weights(candidates.pop(0))
                known[weights.sha256] = weights
            answer = check(file, known.get(wanted, first))
        print(f"{file}: {answer}")
        right += answer.valid
    print(f"{right} of {len(args.files)} proofs are valid")
    return 0 if right == len(args.files) else 1


def _questions(args: argparse.Namespace) -> tuple[Any, Any, Any, list[Any]]:
    """The network, images and labels that verify is asked about, and the names of the images."""
    import torch

    from . import checks, folders, zoo
    from .squeezing import folder
    from .verification import read_onnx

    number = None if isinstance(args.images, Path) else args.images or 100
    if number is not None:
        unused(args, "without a folder of images", "classes", "labels")
    if ":" in args.name:
        unused(args, "where a function makes the network", "from")
        if args.shape is None or number is not None:
            raise ValueError(f"{args.name} comes without shape and images: give --shape, such as 1x28x28, and --images FOLDER")
        net, shape = folder.network(args.name), args.shape
    elif not args.name.endswith(".onnx"):
        unused(args, "for a network of the zoo, which has its own", "shape")
        net, (x, y) = zoo.load(args.name, vars(args)["from"]), zoo.recipe(args.name).test()
        shape = tuple(x.shape[1:])
        if number is not None:
            return net, x[:number], y[:number], list(range(len(x[:number])))
    else:
        unused(args, "for a network in a file", "shape", "from")
        net, shape = read_onnx(args.name)
        if number is not None:
            raise ValueError(f"{args.name} comes without images: give --images FOLDER, or a property, SPEC.vnnlib")
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
        raise ValueError(f"{args.name} takes inputs of the shape {shape}; images of a folder are (1 or 3, size, size)")
    with torch.no_grad():
        answer = net(torch.zeros(1, *shape, dtype=next((p.dtype for p in net.parameters()), torch.float32)))
    paths, _ = folders.images(args.images)
    labels = folders.labels(args.images, paths, checks.logits(answer, 1).shape[1], args.classes, args.labels)
    if labels is None:
        raise ValueError(f"{args.images} has no subfolders that say what its images are: give --labels FILE")
    x, places, errors = folders.read_all(paths, shape[1], shape[0])
    for error in errors:
        print(error, file=sys.stderr)
    if not places:
        raise ValueError(f"{args.images} holds no image that can be read")
    return net, x, torch.tensor([labels[k] for k in places]), [str(paths[k]) for k in places]


def _zoo(args: argparse.Namespace) -> int:
    from . import zoo

    for name in zoo.names():
        try:
            about = zoo.card(name)
            print(f"{name:20} {about['accuracy']:.2%}  {about['paper']}")
        except zoo.CheckpointError:
            print(f"{name:20} recipe only: python -m advlab train {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
