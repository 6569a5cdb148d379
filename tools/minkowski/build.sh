#!/bin/sh
# Builds MinkowskiEngine's wheel for a Python environment that has torch, keeps it, and installs it there.
#
#     tools/minkowski/build.sh [PYTHON]        PYTHON defaults to .venv/bin/python
#
# The wheel is for the CPU, and is kept in ${XDG_CACHE_HOME:-~/.cache}/vlglab/minkowski/<python>-<torch>/; where it is
# already, it is only installed. The build takes about six minutes and 4 GB of memory on two cores (MAX_JOBS=1: twice
# the time, half the memory). It needs Python 3.11 with its headers, g++, and OpenBLAS with its headers; as root on a
# system with apt-get, what is missing is installed; elsewhere the message says what is.
set -eu

VERSION=0.5.4
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-$root/.venv/bin/python}
case $python in /*) ;; *) python=$PWD/$python ;; esac

fail() {
	echo "minkowski: $*" >&2
	exit 1
}

[ -x "$python" ] || fail "got no Python at $python, expected an environment with vlglab; run 'make test' once, or name one"
key=$("$python" -c 'import sys, torch; print("%d.%d-%s" % (*sys.version_info[:2], torch.__version__))') ||
	fail "$python has no torch, expected the one that the wheel is to work with; install vlglab there"
case $key in
3.11-*) ;;
*) fail "got Python ${key%%-*}, expected 3.11: MinkowskiEngine's setup needs numpy.distutils, which ends there" ;;
esac
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vlglab/minkowski/$key
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')

# Asks the compiler rather than the package manager: a toolchain may come from anywhere.
missing() {
	if ! command -v g++ >/dev/null; then
		echo g++ libopenblas-dev
	elif ! echo '#include <cblas.h>' | g++ -E -x c++ - >/dev/null 2>&1 ||
		! echo 'int main() {}' | g++ -x c++ - -lopenblas -o /dev/null >/dev/null 2>&1; then
		echo libopenblas-dev
	fi
	[ -f "$headers/Python.h" ] || echo "python${key%%-*}-dev"
}

wanted=$(missing | tr '\n' ' ')
if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "minkowski: installing $wanted"
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # a list of packages
	{ apt-get update -qq && apt-get install -y -qq --no-install-recommends $wanted; } >/dev/null ||
		fail "apt-get could not install $wanted; install them by hand"
	wanted=$(missing | tr '\n' ' ')
fi
[ -z "$wanted" ] || fail "the build needs, by Debian's names: $wanted; install them (as root: apt-get install $wanted)"

built() {
	[ ! -d "$cache" ] || find "$cache" -maxdepth 1 -iname 'minkowskiengine-*.whl' | head -n 1
}

build() {
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	"$python" -m venv "$work/venv"
	builder=$work/venv/bin/python
	"$builder" -m pip install --disable-pip-version-check -q 'numpy==1.26.*' 'setuptools==65.5.*' wheel ninja
	# The build environment sees the target's torch, but its own old numpy and setuptools come first.
	site='import sysconfig; print(sysconfig.get_paths()["purelib"])'
	"$python" -c "$site" >"$("$builder" -c "$site")/target.pth"
	echo "minkowski: building the wheel for $key, about six minutes on two cores"
	# No CUDA device is shown, as setup.py would try to build for one.
	if ! PATH=$work/venv/bin:$PATH CUDA_VISIBLE_DEVICES='' MAX_JOBS=${MAX_JOBS:-2} "$builder" -m pip wheel -v \
		--disable-pip-version-check --no-build-isolation --no-deps --no-cache-dir -w "$work/wheels" \
		"MinkowskiEngine==$VERSION" >"$work/log" 2>&1; then
		tail -n 40 "$work/log" >&2
		mkdir -p "$cache" && cp "$work/log" "$cache/failed.log"
		fail "MinkowskiEngine $VERSION did not build for $key; the whole log is $cache/failed.log"
	fi
	mkdir -p "$cache"
	rm -f "$cache/failed.log"
	# Copied beside and then renamed, so that nobody finds half a wheel.
	for wheel in "$work"/wheels/*.whl; do
		cp "$wheel" "$cache/.$$.part" && mv "$cache/.$$.part" "$cache/$(basename "$wheel")"
	done
}

[ -n "$(built)" ] || build
"$python" -m pip install --disable-pip-version-check -q --no-deps --force-reinstall "$(built)"
(cd "$root" && "$python" -c 'from workers.sparse.choose import choose_engine; choose_engine("minkowski")') ||
	fail "the wheel is installed but does not load; delete $(built) and run this again"
echo "minkowski: MinkowskiEngine $VERSION is installed for $python"
