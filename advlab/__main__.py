"""Command line:  python -m advlab data|train|reproduce|examples|detect|verify|transfer|zoo ..."""

import argparse
import json
import sys
from fractions import Fraction


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m advlab", description="The Adversarial Lab's library.")
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
    p = commands.add_parser("reproduce", help="measure the book's numbers again and compare; run again to go on")
    p.add_argument("chapter", nargs="?", help="one chapter, such as start_here (default: all)")
    p.add_argument("--claim", metavar="ID", help="one claim only")
    p.add_argument("--tier", choices=("fast", "laptop", "gpu"), default="fast", help="up to which cost (default: fast)")
    p.add_argument("--stale", action="store_true", help="only what is missing, or older than the code it depends on")
    p.add_argument("--n", type=int, help="a slice of n examples, as a trial: printed, not written")
    p.add_argument("--workers", type=int, default=1, help="processes on this machine (default: 1, this one)")
    p.add_argument("--scheduler", metavar="tcp://...", help="a Dask scheduler instead; needs advlab[cluster]")
    p = commands.add_parser("examples", help="make chapter 2's adversarial images; run again to go on")
    p.add_argument("dataset", choices=("mnist", "cifar10"))
    p.add_argument("--seeds", type=int, default=100, help="attack so many images (default: 100, the paper's)")
    p.add_argument("--attack", action="append", help="one attack, such as 'CW2 next'; may be repeated (default: all)")
    p.add_argument("--to", metavar="DIR", default="runs", help="folder for the images and their card (default: runs)")
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
    p.add_argument("--store", metavar="FILE", help="where verdicts are kept (default: runs/NAME-EPS.jsonl)")
    p.add_argument("--time-limit", type=float, default=120.0, help="CPU seconds an image (default: 120, the paper's)")
    p.add_argument("--solver", choices=("highs", "gurobi"), default="highs", help="for the last stage (default: highs)")
    p.add_argument("--workers", type=int, default=1, help="processes on this machine (default: 1, this one)")
    p.add_argument("--scheduler", metavar="tcp://...", help="a Dask scheduler instead; needs advlab[cluster]")
    p = commands.add_parser("transfer", help="chapter 4's tables at the paper's size, for a GPU; run again to go on")
    p.add_argument("--to", metavar="DIR", default="runs", help="folder for checkpoints and results (default: runs)")
    p.add_argument("--source", action="append", help="one source, such as densenet; may be repeated (default: all)")
    p.add_argument("--target", action="append", help="one target, such as mask_50; may be repeated (default: all)")
    p.add_argument("--images", type=int, default=5000, help="the first so many test images (default: 5000, the paper's)")
    p.add_argument("--epochs", type=int, help="fewer epochs, for a trial")
    p.add_argument("--n", type=int, help="fewer training examples, for a trial")
    p.add_argument("--device", default="cuda", help="where all is computed (default: cuda)")
    commands.add_parser("zoo", help="list the networks and their measured accuracy")
    args = parser.parse_args(argv)
    try:
        run = {"data": _data, "train": _train, "reproduce": _reproduce}
        run |= {"examples": _examples, "detect": _detect, "verify": _verify, "transfer": _transfer, "zoo": _zoo}
        return run[args.command](args)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except (RuntimeError, ValueError, OSError, ImportError) as e:
        print(f"advlab: {e}", file=sys.stderr)
        return 1


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


def _reproduce(args: argparse.Namespace) -> int:
    import contextlib

    from . import reproduce, results

    wanted = results.claims(args.chapter)
    if args.claim:
        wanted = [c for c in wanted if c.id == args.claim]
        if not wanted:
            raise ValueError(f"there is no claim {args.claim!r}; there are: {', '.join(c.id for c in results.claims())}")
    else:
        wanted = [c for c in wanted if results.TIERS.index(c.tier) <= results.TIERS.index(args.tier)]
    full_scale = args.tier == "gpu" and args.claim is None and args.n is None and args.chapter in (None, "random_mask")
    if args.tier == "gpu":
        for line in reproduce.about_gpu(wanted, full_scale):
            print(line)
    outcomes: list[reproduce.Outcome] = []
    with contextlib.ExitStack() as stack:
        lanes = []
        if args.scheduler:
            lanes = stack.enter_context(reproduce.cluster(args.scheduler))
        elif args.workers > 1:
            lanes = stack.enter_context(reproduce.processes(args.workers))
        if args.n is None:
            name = "-".join(["reproduce", args.claim or args.chapter or "all", args.tier, *["stale"] * args.stale])
            journal = results.folder() / f".{name}.jsonl"
            if journal.exists():
                print(f"going on from a run that was broken off (to begin anew, delete {journal})")
            found = reproduce.run(wanted, lanes, journal=journal, stale=args.stale)
        else:
            found = (reproduce.Outcome(c, e, None) for c, e in reproduce.measured(wanted, lanes, args.n))
        for outcome in found:
            outcomes.append(outcome)
            if not outcome.earlier:
                print(f"{len(outcomes):3}/{len(wanted)} {reproduce.line(outcome, compare=args.n is None)}", flush=True)
    for line in reproduce.summary(outcomes, compare=args.n is None):
        print(line)
    failed = [f"{o.claim.id}: {o.found.why}" for o in outcomes if isinstance(o.found, reproduce.Failure)]
    if full_scale:
        try:
            for line in reproduce.at_full_scale():
                print(line)
        except (RuntimeError, ValueError, OSError) as e:
            failed.append(f"python -m advlab transfer: {e}")
    for why in failed:
        print(f"not done: {why}", file=sys.stderr)
    return 1 if failed else 0


def _examples(args: argparse.Namespace) -> int:
    from .squeezing import examples

    path = examples.make(args.dataset, args.to, n=args.seeds, names=args.attack)
    for name, seconds in json.loads(path.read_text())["attacks"].items():
        print(f"{name:12} {seconds:.3f} CPU s an image")
    print(f"the images and their card: {path.with_suffix('.xz')}, {path}")
    return 0


def _detect(args: argparse.Namespace) -> int:
    from .squeezing import folder

    model = folder.network(args.network)
    for name, value in folder.report(model, *folder.load(args.folder, args.size, args.n)).items():
        print(f"{name:26} {value:.4f}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    import contextlib

    import torch

    from . import zoo
    from .stability import verify_dataset, worker_pool

    torch.set_num_threads(1)
    net = zoo.load(args.name, args.folder)
    x, y = (t[: args.images] for t in zoo.recipe(args.name).test())
    store = args.store or f"runs/{args.name}-{args.eps:g}.jsonl"
    with contextlib.ExitStack() as stack:
        executor = None
        if args.scheduler:
            try:
                from distributed import Client
            except ImportError as e:
                raise RuntimeError("a scheduler needs Dask: pip install 'advlab[cluster]'") from e
            executor = stack.enter_context(Client(args.scheduler)).get_executor()
        elif args.workers > 1:
            executor = stack.enter_context(worker_pool(args.workers))
        options = {"time_limit": args.time_limit, "solver": args.solver}
        found = verify_dataset(net, x, y, args.eps, executor=executor, store=store, **options)
    seconds = found.seconds()
    low, high = found.interval
    print(f"{args.name}, linf {args.eps:g}, {len(found)} images: {found.provable:.2%} proved robust ({low:.2%} to {high:.2%}),")
    print(f"{found.upper:.2%} not broken; {found.count('unknown')} unknown. Decided by: {found.stages}")
    if len(seconds):
        print(f"CPU seconds an image: mean {seconds.mean():.3f}, median {sorted(seconds)[len(seconds) // 2]:.3f}, ", end="")
        print(f"most {seconds.max():.2f}. The verdicts are in {store}")
    return 0


def _transfer(args: argparse.Namespace) -> int:
    from .masking import full_scale

    kinds = {"sources": args.source, "targets": args.target}
    chosen = {name: names for name, names in kinds.items() if names}
    sizes = {"images": args.images, "epochs": args.epochs, "n": args.n}
    found = full_scale.transfer(args.to, **chosen, **sizes, device=args.device)
    for row in full_scale.lines(found):
        print(row)
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
