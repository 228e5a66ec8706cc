# Sourced by the scripts that install pinned wheels. What it installs stays in
# the user's cache folder; it needs python3 with pip, and the network once.

cache="${XDG_CACHE_HOME:-$HOME/.cache}/temper"
python3 -m pip --version >/dev/null 2>&1 || { (apt-get update -q && apt-get install -y -q python3-pip) >&2; }

install() { # name, requirements, file in its packages: prints where that is
  local to="$cache/$1-$(sha256sum "$2" | cut -c1-12)"
  if [ ! -e "$to/$3" ]; then
    mkdir -p "$cache"
    local new
    new=$(mktemp -d "$cache/$1-XXXXXX")
    python3 -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: --target "$new" -r "$2" >&2
    [ -e "$new/$3" ] || { echo "build/wheels.sh: $2 has no $3" >&2; exit 1; }
    mv -T "$new" "$to" 2>/dev/null || rm -rf "$new" # another process was first
  fi
  echo "$to/$3"
}
