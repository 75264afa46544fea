#!/bin/sh
# Builds trueup_VERSION_ARCH.deb for hosts that reach no package index: all it needs lies in /opt/trueup.
# Run it on the Debian or Ubuntu release that the package is for, since compiled parts belong to one Python.
#   deploy/debian/build.sh [FOLDER]      the package is written into FOLDER, dist/ by default
# COMPRESSION=gzip makes it larger and thirty times sooner.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
out=${1:-dist}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "needs Python 3.11 or newer: set PYTHON" >&2; exit 1; }

version=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
arch=$(dpkg --print-architecture)
needs=$("$python" -c 'import sys; print("python3 (>= 3.%d), python3 (<< 3.%d~)" % (sys.version_info[1], sys.version_info[1] + 1))')
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"

home=$root/opt/trueup
# Without pip: what is in the package is what was locked, and stays so.
"$python" -m venv --without-pip "$home"
lock=$root/requirements.txt
"$python" deploy/debian/runtime_lock.py requirements.lock pyproject.toml > "$lock"
"$python" -m pip --python "$home/bin/python" install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r "$lock"
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$root/wheel" .
"$python" -m pip --python "$home/bin/python" install --quiet --disable-pip-version-check --no-compile --no-deps "$root"/wheel/trueup-*.whl
rm -rf "$lock" "$root/wheel"
ln -sf /usr/bin/python3 "$home/bin/python"
ln -sf python "$home/bin/python3"
rm -f "$home"/bin/python3.*
find "$home" -name __pycache__ -type d -prune -exec rm -rf {} +
for script in trueup; do
	# Started by its path in the package, not by that of the machine that built it.
	sed -i '1s|.*|#!/opt/trueup/bin/python|' "$home/bin/$script"
done
find "$home/bin" -type f ! -name trueup -delete
sed -i 's|^\(home = \).*|\1/usr/bin|; /^command = /d; /^executable = /d' "$home/pyvenv.cfg"

install -d "$root/usr/bin" "$root/lib/systemd/system" "$root/usr/share/doc/trueup" "$root/DEBIAN"
ln -s /opt/trueup/bin/trueup "$root/usr/bin/trueup"
install -m 0644 deploy/systemd/trueup.service "$root/lib/systemd/system/trueup.service"
install -m 0644 LICENSE "$root/usr/share/doc/trueup/copyright"
cp -r docs "$root/usr/share/doc/trueup/"
cat > "$root/DEBIAN/control" <<CONTROL
Package: trueup
Version: $version
Architecture: $arch
Maintainer: The trueup developers <trueup@localhost>
Section: admin
Priority: optional
Depends: $needs, adduser, openssh-client
Description: crash-safe reconcile agent for Proxmox VE
 Keeps the guests of a Proxmox VE cluster at the state that their manifests declare. Each change is in a durable
 journal before the cluster hears of it, and leaves once at the most.
CONTROL
cat > "$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
	getent passwd trueup >/dev/null || adduser --system --group --quiet --home /var/lib/trueup --no-create-home trueup
	if [ ! -e /etc/trueup ]; then
		install -d -o root -g trueup -m 0750 /etc/trueup
		/opt/trueup/bin/trueup init /etc/trueup >/dev/null
	fi
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
POSTINST
cat > "$root/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl stop trueup.service; fi
PRERM
chmod 0755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"
mkdir -p "$out"
dpkg-deb -Z"${COMPRESSION:-xz}" --root-owner-group --build "$root" "$out/trueup_${version}_${arch}.deb"
