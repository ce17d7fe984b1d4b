"""Command line of the book:  python -m labbook reproduce|examples|trainings|transfer|gpu|vouch ..."""

import argparse
import json
import sys
from typing import Any

from advlab.__main__ import answered, count, positive, unused


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    run = {"reproduce": _reproduce, "examples": _examples, "trainings": _trainings, "transfer": _transfer}
    return answered("labbook", (run | {"game": _game, "gpu": _gpu, "vouch": _vouch})[args.command], args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m labbook", description="What measures the book's numbers.")
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("reproduce", help="measure the book's numbers again and compare; run again to go on")
    p.set_defaults(error=p.error)
    p.add_argument("chapter", nargs="?", help="one chapter, such as start_here (default: all)")
    p.add_argument("--claim", metavar="ID", help="one claim only")
    p.add_argument("--tier", choices=("fast", "laptop", "gpu"), default="fast", help="up to which cost (default: fast)")
    p.add_argument("--stale", action="store_true", help="only what is missing, or older than the code it depends on")
    p.add_argument("--n", type=count, help="a slice of n examples, as a trial: printed, not written")
    p.add_argument("--workers", type=count, help="processes on this machine (default: 1, this one)")
    p.add_argument("--scheduler", metavar="tcp://...", help="a Dask scheduler instead; needs advlab[cluster]")
    p = commands.add_parser("examples", help="make chapter 2's adversarial images; run again to go on")
    p.set_defaults(error=p.error)
    p.add_argument("dataset", choices=("mnist", "cifar10", "imagenet"))
    p.add_argument("folder", nargs="?", help="of imagenet: a folder of its images, which may not be passed on")
    p.add_argument("--seeds", type=int, default=100, help="attack so many images (default: 100, the paper's)")
    p.add_argument(
        "--attack", action="append", help="one, such as 'CW2 next', or several (default: all; of imagenet the quick)"
    )
    p.add_argument("--to", metavar="DIR", default="runs", help="folder for the images and their card (default: runs)")
    _add_imagenet(p)
    p = commands.add_parser("trainings", help="a row with several trainings: train and measure each; run again to go on")
    p.add_argument("row", help="such as mnist_03_fast of chapter 3, or sphere_relu_million of chapter 1")
    p.add_argument("--seeds", type=int, help="so many trainings (default: all of the row)")
    p.add_argument("--to", metavar="DIR", default="runs", help="folder for the networks (default: runs)")
    _add_training(commands)
    p = commands.add_parser("vouch", help="after a refactoring: which stale numbers are computed as before, on slices")
    p.add_argument("commit", help="a commit at which they were current")
    p.add_argument("chapter", nargs="?", help="one chapter, such as start_here (default: all)")
    p = commands.add_parser("game", help="prove or break images with known answers, against the clock")
    p.add_argument("player", help="a Python file with a function solve(net, x, y, eps)")
    p.add_argument("--images", type=count, default=20, help="how many (default: 20)")
    p.add_argument("--seconds", type=positive, default=300.0, help="of the whole game (default: 300)")
    p.add_argument("--seed", type=int, default=0, help="which images; the same for all players (default: 0)")
    return parser


def _add_training(commands: Any) -> None:
    """The commands for a GPU."""
    p = commands.add_parser("transfer", help="chapter 4's tables at the paper's size, for a GPU; run again to go on")
    p.add_argument("--to", metavar="DIR", default="runs", help="folder for checkpoints and results (default: runs)")
    p.add_argument("--source", action="append", help="one source, such as densenet; may be repeated (default: all)")
    p.add_argument("--target", action="append", help="one target, such as mask_50; may be repeated (default: all)")
    p.add_argument("--images", type=count, default=5000, help="the first so many test images (default: 5000, the paper's)")
    p.add_argument("--epochs", type=count, help="fewer epochs, for a trial")
    p.add_argument("--n", type=count, help="fewer training examples, for a trial")
    p.add_argument("--device", default="cuda", help="where all is computed (default: cuda)")
    p.add_argument("--store", action="store_true", help="put what was found into the book's results")
    p = commands.add_parser("gpu", help="train what a GPU is worth most for, and stop in time; run again to go on")
    p.add_argument("--minutes", type=positive, default=12.0, help="wall time (default: 12)")
    p.add_argument("--to", metavar="DIR", default="runs", help="folder for the checkpoints (default: runs)")
    p.add_argument("--device", default="cuda", help="where it is trained (default: cuda)")
    p.add_argument("--network", action="append", help="one network of the zoo; may be repeated (default: all, by value)")
    p.add_argument("--jobs", type=count, default=1, help="trainings at a time (default: 1)")
    p.add_argument("--epochs", type=count, help="fewer epochs, for a trial")
    p.add_argument("--n", type=count, help="fewer training examples, for a trial")


def _add_imagenet(p: argparse.ArgumentParser) -> None:
    g = p.add_argument_group("of imagenet", "measures what the attacks make, and keeps numbers alone")
    g.add_argument("--network", choices=("lite0", "mobilenet"), help="what is attacked (default: lite0)")
    g.add_argument("--weights", metavar="FILE", help="of mobilenet, which come with no package")
    g.add_argument("--classes", metavar="FILE", help="class names, one a line (default: ImageNet's synsets)")
    g.add_argument("--labels", metavar="FILE", help="lines image,label for images whose subfolders are no classes")
    g.add_argument("--images", type=count, help="take so many images, in an order mixed with a fixed seed (default: all)")
    g.add_argument("--device", help="where all is computed, such as cuda (default: cpu)")
    g.add_argument("--batch", type=count, help="images that are attacked together (default: 4)")
    g.add_argument("--source", metavar="TEXT", help="what to say of the images, for the book")
    g.add_argument("--store", action="store_true", help="put what was found into the book's results")


def _reproduce(args: argparse.Namespace) -> int:
    from advlab import work

    from . import reproduce, results

    if args.n is not None:
        unused(args, "with --n, which measures all again", "stale")
    if args.scheduler is not None:
        unused(args, "with a scheduler", "workers")
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
    with work.workers(args.workers or 1, args.scheduler) as lanes:
        if args.n is None:
            name = "-".join(["reproduce", args.claim or args.chapter or "all", args.tier, *["stale"] * args.stale])
            journal = results.folder() / f".{name}.sqlite"
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
            failed.append(f"python -m labbook transfer: {e}")
    for why in failed:
        print(f"not done: {why}", file=sys.stderr)
    return 1 if failed else 0


def _examples(args: argparse.Namespace) -> int:
    from .feature_squeezing import examples

    if args.dataset == "imagenet":
        return _imagenet(args)
    of_imagenet = ("network", "weights", "classes", "labels", "images", "device", "batch", "source", "store")
    unused(args, f"for {args.dataset}", *of_imagenet)
    if args.folder is not None:
        raise ValueError(f"{args.dataset} ships: leave {args.folder} out")
    path = examples.make(args.dataset, args.to, n=args.seeds, names=args.attack)
    for name, seconds in json.loads(path.read_text())["attacks"].items():
        print(f"{name:12} {seconds:.3f} CPU s an image")
    print(f"the images and their card: {path.with_suffix('.xz')}, {path}")
    return 0


def _imagenet(args: argparse.Namespace) -> int:
    from .feature_squeezing import imagenet_claims, imagenet_examples

    if args.folder is None:
        raise ValueError("ImageNet does not ship: name a folder of its images, python -m labbook examples imagenet FOLDER")
    path = imagenet_examples.make(
        args.folder,
        args.network or "lite0",
        args.weights,
        args.to,
        n=args.seeds,
        names=args.attack,
        images=args.images,
        classes=args.classes,
        table=args.labels,
        device=args.device or "cpu",
        batch_size=args.batch or 4,
        source=args.source or "",
    )
    for line in imagenet_claims.lines(json.loads(path.read_text())):
        print(line)
    print(f"what was found: {path}")
    if args.store:
        print(f"the book's evidence: {imagenet_examples.store(path)}")
    return 0


def _trainings(args: argparse.Namespace) -> int:
    import torch

    from .adversarial_spheres import million_claims
    from .relu_stability import trainings

    made = trainings.ROWS | trainings.ABLATION
    rows = {name: row.wanted for name, row in made.items()} | dict.fromkeys(million_claims.STEMS, 3)
    if args.row not in rows:
        raise ValueError(f"there is no row {args.row!r}; there are: {', '.join(rows)}")
    wanted = rows[args.row] if args.seeds is None else args.seeds
    if not 1 <= wanted <= rows[args.row]:
        raise ValueError(f"--seeds is {wanted}; {args.row} has recipes for 1 to {rows[args.row]}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as the lines that are kept were made; without it a training takes far longer
    try:
        if args.row in made:
            path = trainings.make(made[args.row], range(wanted), args.to)
        else:
            path = million_claims.make(args.row, args.to, range(wanted))
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    print(f"{len(path.read_text().splitlines())} trainings: {path}")
    return 0


def _transfer(args: argparse.Namespace) -> int:
    from .random_mask import full_scale

    kinds = {"sources": args.source, "targets": args.target}
    chosen = {name: names for name, names in kinds.items() if names}
    sizes = {"images": args.images, "epochs": args.epochs, "n": args.n}
    found = full_scale.transfer(args.to, **chosen, **sizes, device=args.device)
    for row in full_scale.lines(found):
        print(row)
    if args.store:
        print(f"the book's evidence: {full_scale.store(args.to)}")
    return 0


def _gpu(args: argparse.Namespace) -> int:
    from . import gpu

    names = args.network or gpu.ORDER
    sizes = {"jobs": args.jobs, "epochs": args.epochs, "n": args.n}
    for line in gpu.run(args.minutes, args.to, device=args.device, names=names, **sizes):
        print(line, flush=True)
    return 0


def _vouch(args: argparse.Namespace) -> int:
    from . import results, vouch

    differ = 0
    for c, same in vouch.vouch(args.commit, results.claims(args.chapter)):
        print(f"{c.id}: {'equal, vouched for' if same else 'differs, still stale'}", flush=True)
        differ += not same
    return 1 if differ else 0


def _game(args: argparse.Namespace) -> int:
    from . import game

    points = 0
    for number, each in enumerate(game.play(game.player(args.player), args.images, args.seconds, args.seed), 1):
        points += each.points
        print(f"{number:3}/{args.images} image {each.image:4}: {each.said or '-':14} {each.points:+5}  {each.why}", flush=True)
    print(f"{points} points of {game.RIGHT * args.images}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
