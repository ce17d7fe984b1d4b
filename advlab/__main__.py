"""Command line:  python -m advlab data|train|detect|verify|zoo ..."""

import argparse
import runpy
import sys
from fractions import Fraction
from importlib import util
from pathlib import Path

#: Commands of the book, which a reader may type here too.
_OF_THE_BOOK = ("reproduce", "examples", "transfer")


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] and argv[0] in _OF_THE_BOOK:
        return _book(argv)
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
    p.add_argument("--threads", type=int, help="threads for torch (default: torch's choice)")
    p.add_argument("--device", default="cpu", help="where it is trained, such as cuda (default: cpu)")
    p = commands.add_parser("detect", help="chapter 2's detector on a folder of images, such as ImageNet's validation set")
    p.add_argument("folder", help="one subfolder a class")
    p.add_argument("--network", required=True, metavar="MODULE:FUNCTION", help="returns a network from [0, 1] to logits")
    p.add_argument("--size", type=int, default=224, help="side of the network's input (default: 224)")
    p.add_argument("--n", type=int, help="take so many images (default: all)")
    p = commands.add_parser("verify", help="chapter 3's exact verifier on a network's test images; run again to go on")
    p.add_argument("name", help="a network of the zoo")
    p.add_argument("--eps", type=_budget, required=True, help="the budget in linf, such as 0.1 or 2/255")
    p.add_argument("--images", type=int, default=100, help="the first so many test images (default: 100)")
    p.add_argument("--from", dest="folder", metavar="DIR", help="a folder of your own trainings (default: what ships)")
    p.add_argument("--store", metavar="FILE", help="where verdicts are kept (default: runs/NAME-EPS.sqlite)")
    p.add_argument("--time-limit", type=float, default=120.0, help="CPU seconds an image (default: 120, the paper's)")
    p.add_argument("--solver", choices=("highs", "gurobi"), default="highs", help="for the last stage (default: highs)")
    p.add_argument("--workers", type=int, default=1, help="processes on this machine (default: 1, this one)")
    p.add_argument("--scheduler", metavar="tcp://...", help="a Dask scheduler instead; needs advlab[cluster]")
    commands.add_parser("zoo", help="list the networks and their measured accuracy")
    args = parser.parse_args(argv)
    try:
        run = {"data": _data, "train": _train, "detect": _detect, "verify": _verify, "zoo": _zoo}
        return run[args.command](args)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except (RuntimeError, ValueError, OSError, ImportError) as e:
        print(f"advlab: {e}", file=sys.stderr)
        return 1


def _book(argv: list[str]) -> int:
    """``python -m labbook`` with these arguments, where the book is."""
    if util.find_spec("labbook") is None:
        print(f"advlab: {argv[0]} is a command of the book: pip install -e . in a checkout of it", file=sys.stderr)
        return 1
    return runpy.run_module("labbook.__main__")["main"](argv)


def _budget(text: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError) as e:
        raise argparse.ArgumentTypeError(f"{text!r} is no budget; give a number such as 0.1 or 2/255") from e


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
    from .squeezing import folder

    model = folder.network(args.network)
    for name, value in folder.report(model, *folder.load(args.folder, args.size, args.n)).items():
        print(f"{name:26} {value:.4f}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    import torch

    from . import work, zoo
    from .verification import Store, verify_dataset

    torch.set_num_threads(1)
    net = zoo.load(args.name, args.folder)
    x, y = (t[: args.images] for t in zoo.recipe(args.name).test())
    store = Path(args.store or f"runs/{args.name}-{args.eps:g}.sqlite")
    if (old := store.with_suffix(".jsonl")).exists() and not store.exists():  # of versions before there was a store
        Store(store).records.take(old)
    with work.workers(args.workers, args.scheduler) as lanes:
        options = {"time_limit": args.time_limit, "solver": args.solver}
        found = verify_dataset(net, x, y, args.eps, executor=lanes, store=store, **options)
    seconds = found.seconds()
    low, high = found.interval
    print(f"{args.name}, linf {args.eps:g}, {len(found)} images: {found.provable:.2%} proved robust ({low:.2%} to {high:.2%}),")
    print(f"{found.upper:.2%} not broken; {found.count('unknown')} unknown. Decided by: {found.stages}")
    if len(seconds):
        print(f"CPU seconds an image: mean {seconds.mean():.3f}, median {sorted(seconds)[len(seconds) // 2]:.3f}, ", end="")
        print(f"most {seconds.max():.2f}. The verdicts are in {store}")
    return 0


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
