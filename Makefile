# `make run` starts the app, `make test` checks it; both install what a fresh machine lacks.
PYTHON ?= python3
PORT ?= 8501
BIN = .venv/bin

run: .venv/app
	@$(BIN)/streamlit run app.py --server.port $(PORT)

test: .venv/test browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not browser"
	$(BIN)/python -m pytest -n 2 --dist worksteal -m browser $$(grep -l mark.browser tests/*.py)
	@echo "Left out: tests marked slow, minutes of one core (make slow)."

# What test leaves out: minutes of one core.
slow: .venv/test browser
	$(BIN)/python -m pytest -m slow

bench: .venv/test browser
	$(BIN)/python -m lnres bench

.venv/app: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt
	@touch $@

.venv/test: requirements-test.txt .venv/app
	$(BIN)/pip install --quiet --requirement requirements-test.txt
	@touch $@

# Debian's Chromium where there is none and we may install it; else say what is missing.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	  { echo "The browser tests need Chromium: install the package 'chromium' and run make test again."; exit 1; }

.PHONY: run test slow bench browser
