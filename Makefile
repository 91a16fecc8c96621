# Two commands do all the set-up: `make demo` and `make test`. Each creates or reuses .venv, installs what it needs and says so.
# A file in .venv remembers each installation, so that the second run is quick.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# What is compiled when the package is installed.
COMPILED := edge_tse/_front.c edge_tse/nn/_beam.c firmware_bridge/c/library/front_math.h firmware_bridge/c/library/exact.h
# Workers take runs of neighbouring tests, and what is left of the other's: the fixtures of a file are made by one of them.
WORKERS := -n auto --dist worksteal
# -qq: errors only.
PIP := $(RUN) -m pip install -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo try studio plugins test test-slow fuzz lint docs audit wheels sbom release clean
.DELETE_ON_ERROR:

# For the shell, which quotes them: a file name may hold anything.
export MIX ENROLL REFERENCE VOICE PYTHON

help:
	@echo "make demo                       enroll, extract and leave sound, a picture and a page in demo/"
	@echo "make demo MIX=m.wav ENROLL=e.wav  the same on your own files (REFERENCE=r.wav, if you have it, gives an SI-SDR)"
	@echo "make try                        the engine in a browser: a page in build/try/ for any web server, or none"
	@echo "make studio                     record a voice and listen live, with every knob on a page in the browser (needs microphone and earphones)"
	@echo "make plugins VOICE=alice.voice   LADSPA and LV2 plugins and a JACK client for this talker, in build/plugins/"
	@echo "make test                       system packages, Python packages, lint, tests (ARGS='-k flash' for those that you name)"
	@echo "make test-slow                  what make test leaves out: emulated boards, five minutes of live sound, other environments"
	@echo "make fuzz                       hostile input at every door, ten minutes each (SECONDS=60 DOORS='artifact voice' for less)"
	@echo "make lint                       ruff and mypy alone"
	@echo "make docs                       the API reference, in build/docs/: every reference and link in it is checked"
	@echo "make audit                      known vulnerabilities of what is installed, where the service that knows them can be reached"
	@echo "make wheels                     sdist and wheels for x86-64 and aarch64 in dist/, for any Linux with glibc 2.17 and Python 3.11 or newer"
	@echo "make sbom                       bills of materials (CycloneDX) of the wheel, a C archive, a firmware image and the boot code, in dist/"
	@echo "make release                    each shipped model as .tflite, .onnx, .pte, C archive and plugins beside those, with SHA256SUMS, in dist/"
	@echo "make clean                      remove demo/, builds and caches; .venv stays"

demo: $(VENV)/.installed-litert
	@$(RUN) -m edge_tse demo --out demo $${MIX:+--mix "$$MIX"} $${ENROLL:+--enroll "$$ENROLL"} $${REFERENCE:+--reference "$$REFERENCE"}

try: $(VENV)/.installed-litert $(VENV)/.installed-firmware
	@$(RUN) -m benchmarks.try_page --out build/try

studio: $(VENV)/.installed-studio
	@$(RUN) -m edge_tse studio

plugins: $(VENV)/.installed-litert $(VENV)/.installed-firmware
	@[ -n "$$VOICE" ] || { echo "make plugins VOICE=alice.voice: a voice file of edge-tse enroll" >&2; exit 2; }
	@mkdir -p build
	@$(RUN) -m edge_tse compile --target plugin --voice "$$VOICE" -o build/plugins.zip
	@rm -rf build/plugins && $(RUN) -m zipfile -e build/plugins.zip build/plugins && chmod +x build/plugins/edge-tse-jack

test: lint
	@echo "==> pytest"
	@$(RUN) -m pytest $(WORKERS) $(or $(ARGS),-m 'not slow and not alone' --cov --cov-report=term)
	@$(if $(ARGS),,echo "==> pytest: what needs the machine to itself" && $(RUN) -m pytest -m 'alone and not slow')

test-slow: $(VENV)/.installed-dev
	@echo "==> pytest: slow tests"
	@$(RUN) -m pytest $(WORKERS) -m 'slow and not alone'
	@echo "==> pytest: slow tests that need the machine to themselves"
	@$(RUN) -m pytest -m 'slow and alone'

fuzz: $(VENV)/.installed-dev
	@$(RUN) -m tests.fuzz --seconds $(or $(SECONDS),600) --keep build/fuzz $(DOORS)

lint: $(VENV)/.installed-dev
	@echo "==> ruff, mypy"
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

docs: $(VENV)/.installed-dev
	@echo "==> pdoc"
	@rm -rf build/docs
	@$(RUN) .ci/api_reference.py build/docs

audit: $(VENV)/.installed-dev
	@echo "==> pip-audit"
	@$(RUN) .ci/audit.py

wheels: $(VENV)/.installed-dev
	@echo "==> sdist and wheels"
	@$(RUN) .ci/wheels.py --out dist

# What pip installs with the wheel for this processor, in an environment of its own: this one has the tests' packages too.
sbom: wheels
	@echo "==> the wheel, and what is installed with it"
	@rm -rf build/sbom && mkdir -p build/sbom
	@$(RUN) -m venv --without-pip build/sbom/environment
	@wheel=$$(echo dist/*manylinux_2_17_$$(uname -m).whl) && \
		$(RUN) -m pip --python build/sbom/environment install -qq --disable-pip-version-check "$$wheel[litert]" && \
		$(RUN) .ci/wheel_bill.py "$$wheel" build/sbom/environment > dist/edge-tse.cdx.json
	@rm -r build/sbom
	@echo "==> the C archive, an image and the boot code"
	@$(RUN) -m edge_tse compile --target stm32h7 -o dist/edge-tse-stm32h7.zip --sbom dist/edge-tse-stm32h7.cdx.json
	@$(RUN) -m edge_tse compile --target qemu-mps3-an547 -o dist/edge-tse-qemu.img --sbom dist/edge-tse-qemu.cdx.json
	@$(RUN) -m firmware_bridge.bill > dist/edge-tse-boot.cdx.json

# A run that was stopped goes on: what is whole and of today's sources is kept. Exit code 1, and why, if a format was left out.
release: sbom
	@echo "==> each shipped model in every format (ExecuTorch takes minutes)"
	@$(RUN) .ci/release.py --out dist

clean:
	rm -rf demo build dist *.egg-info .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A half-made environment (Debian without python3-venv leaves one) has a python and no pip.
$(VENV)/.created:
	@if ! $(RUN) -m pip --version >/dev/null 2>&1; then \
		.ci/system venv && \
		echo "==> virtual environment $(VENV)" && \
		"$$PYTHON" -m venv $(VENV); \
	fi
	@touch $@

$(VENV)/.installed-litert: pyproject.toml $(COMPILED) | $(VENV)/.created
	@echo "==> packages: NumPy, LiteRT, soundfile, soxr, matplotlib, rich, typer (300 MB on disk, no PyTorch)"
	@$(PIP) --editable '.[litert]'
	@touch $@

$(VENV)/.installed-firmware: pyproject.toml $(COMPILED) | $(VENV)/.created
	@echo "==> packages: a C compiler that knows WebAssembly (zig, 400 MB on disk)"
	@$(PIP) --editable '.[firmware]'
	@touch $@

$(VENV)/.installed-studio: pyproject.toml $(COMPILED) | $(VENV)/.created
	@PYTHON=$(RUN) .ci/system $$($(RUN) -c 'import pyaudio' 2>/dev/null || echo compiler portaudio)
	@echo "==> packages: the demo's, PyAudio, Starlette, uvicorn"
	@$(PIP) --editable '.[studio]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(COMPILED) | $(VENV)/.created
	@PYTHON=$(RUN) .ci/system $$($(RUN) -c 'import pesq, pyaudio' 2>/dev/null || echo compiler portaudio) \
		synthesiser emulators sound toolchain plugins browser
	@echo "==> packages: the demo's, PyTorch, Brevitas, ExecuTorch, ONNX, TFLite Micro, a C compiler, PyAudio, Playwright, pytest, ruff, mypy"
	@echo "    (PyTorch can be a download of gigabytes or of 200 MB: CONTRIBUTING.md says how to choose)"
	@$(PIP) --editable '.[dev]'
	@echo "==> pyclarity, which tests compare with: alone, without the laboratory that it asks for"
	@$(PIP) --no-deps pyclarity==0.9.0
	@touch $@
