# The two commands of the README are `make book` and `make test`; both set up .venv first if need be.
#   make quick      lint, types and the library's own tests, within a minute
#   make test       the book, and its tests: the long ones each on its day of the week, with SLOW=1 all
#   make lab        JupyterLab on chapter 0, on this machine only, with its token; in Chinese with LANG=zh
#   make book-zh    the book in Chinese beside the English one, build/_build/html/zh/
#   make stick      the book in one file, build/adversarial-lab.zip: unpacked, it needs no server and no network
#   make pdf        the book on paper, build/adversarial-lab.pdf (needs xelatex)
#   make slides     a deck for each chapter, build/slides/*.html
#   make plain      the notebooks in plain Markdown, for GitHub and VS Code, build/plain/*.ipynb
#   make colab      these with a first cell for Colab, build/colab/*.ipynb
#   make pictures   every page in light and dark, phone and desk, build/pictures/index.html (after make book; needs Chromium)
#   make refresh    authors: run the notebooks from their text twins and store outputs and widget state
#   make bench      our attacks beside their peers, in an environment of their own
#   make wheels     fill ./wheels for a machine without the network; there: make book WHEELS=wheels
# Variables: PYTHON=python3.12, TORCH=cuda (default cpu), WHEELS=FOLDER (no network), CONSTRAINTS= (newest versions)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= cpu
CONSTRAINTS ?= constraints.txt
EXTRAS = lab,book,test
BIN = .venv/bin
READY = .venv/ok-$(TORCH)
PIP = $(BIN)/python -m pip install -q --disable-pip-version-check --retries 1
WITH = $(addprefix -c ,$(CONSTRAINTS))
JOBS ?= 2
CHINESE = $(filter zh zh_CN,$(LANG))
SHELL = /bin/bash
.SHELLFLAGS = -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: help book book-zh stick pdf slides plain colab pictures test quick lint types library lab refresh bench wheels clean

ifdef WHEELS
export PIP_NO_INDEX = 1
export PIP_FIND_LINKS = $(abspath $(WHEELS))
export UV_NO_INDEX = 1
export UV_FIND_LINKS = $(abspath $(WHEELS))
endif

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -15

# An interrupted set-up leaves no mark, so the next call goes through it again; a .venv without pip starts afresh.
$(READY): pyproject.toml requirements-torch.txt $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "advlab needs Python 3.11 or later; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version), torch for $(TORCH) ..."
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PIP) --no-deps $(WITH) $(if $(filter cuda,$(TORCH)),--force-reinstall torch,-r requirements-torch.txt)
	$(PIP) uv || echo "uv is not to be had; pip goes on alone, more slowly"
	{ [ -x $(BIN)/uv ] && $(BIN)/uv pip install -q --python $(BIN)/python $(WITH) -e '.[$(EXTRAS)]'; } || $(PIP) $(WITH) -e '.[$(EXTRAS)]'
	@touch $@

book: $(READY)
	$(BIN)/jupyter-book build . --config book/_config.yml --toc book/_toc.yml --path-output build -q -W -n --keep-going
	@echo "The book is built. Open  build/_build/html/index.html  in a browser; it needs no network."

book-zh: $(READY)
	@[ -e build/_build/html/book/index.html ] || $(MAKE) --no-print-directory book
	$(BIN)/python book/edition.py book

# One file that a class can carry home: unpacked anywhere, it needs no server and no network.
stick: $(READY)
	@[ -e build/_build/html/book/index.html ] || $(MAKE) --no-print-directory book
	cd build/_build && $(CURDIR)/$(BIN)/python -m zipfile -c ../adversarial-lab.zip html
	@echo "The book in one file is  build/adversarial-lab.zip : unpack it and open  html/index.html"

LATEX = texlive-xetex texlive-latex-recommended texlive-latex-extra texlive-fonts-recommended texlive-fonts-extra
LATEX += latexmk tex-gyre fonts-freefont-otf

# After a failed run latexmk gives up at once, hence the fresh folder.
pdf: $(READY)
	@{ command -v xelatex && command -v latexmk; } >/dev/null || { echo "make pdf needs xelatex and latexmk; on Debian or Ubuntu: apt-get install --no-install-recommends $(LATEX)" >&2; exit 1; }
	rm -rf build/_build/latex
	LATEXMKOPTS=-silent LATEXOPTS='-interaction=nonstopmode -halt-on-error' $(BIN)/jupyter-book build . --config book/_config.yml --toc book/_toc.yml --path-output build --builder pdflatex -q -W -n --keep-going
	cp build/_build/latex/adversarial-lab.pdf build/
	@echo "The book is in  build/adversarial-lab.pdf"

slides: $(READY)
	$(BIN)/python book/slides.py

plain: $(READY)
	$(BIN)/python book/plain.py

colab: $(READY)
	$(BIN)/python book/colab.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos
	$(BIN)/python book/chores.py check

types: $(READY)
	$(BIN)/pyrefly check --summary=none

library: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m library -n $(JOBS) --dist worksteal advlab tests

quick: $(READY)
	$(MAKE) --no-print-directory -j3 lint types library

# The book and the types at the same time. pytest comes last, so that its closing line is the last of the output.
test: $(READY)
	$(MAKE) --no-print-directory -j2 book lint types
	$(MAKE) --no-print-directory book-zh
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope $(if $(SLOW),--slow)

lab: $(READY)
	$(if $(CHINESE),$(BIN)/python book/edition.py lab)
	$(if $(CHINESE),ADVLAB_LANG=zh LANG=C.UTF-8) JUPYTER_CONFIG_PATH=$(CURDIR)/book/lab $(BIN)/jupyter lab --ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) $(if $(CHINESE),build/zh/lab/)notebooks/00_start_here.ipynb

pictures: $(READY)
	$(BIN)/python book/pictures.py

refresh: $(READY)
	$(BIN)/python book/chores.py refresh

.venv-bench/ok: pyproject.toml requirements-torch.txt $(CONSTRAINTS)
	$(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/python -m pip install -q --retries 1 --no-deps $(WITH) -r requirements-torch.txt
	.venv-bench/bin/python -m pip install -q uv
	.venv-bench/bin/uv pip install -q --python .venv-bench/bin/python -r pyproject.toml --extra bench
	.venv-bench/bin/uv pip install -q --python .venv-bench/bin/python --no-deps torchattacks==3.5.1 adv-lib==0.2.8
	@touch $@

bench: .venv-bench/ok
	.venv-bench/bin/python -m bench.attacks

wheels: $(READY)
	$(BIN)/python -m pip download -q -d wheels --no-deps $(WITH) -r requirements-torch.txt
	$(BIN)/python -m pip download -q -d wheels --find-links wheels $(WITH) uv pip 'setuptools>=77' '.[$(EXTRAS)]'
	@echo "wheels/ holds everything: on the other machine, make book WHEELS=wheels"

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
