#!/usr/bin/env bash
# fetch-newer-clients.sh DIR [SUITE]: unpacks the NBD clients of a later Debian suite (trixie: libnbd 1.22, QEMU 10), with the
# libraries that they need, below DIR, and puts a script for each in DIR/tools. Nothing is installed and nothing outside DIR is changed.
# Needs apt, dpkg and Debian's keyring; packages come from where this machine's own come from. Does nothing if DIR/tools is there, and whole.
set -euo pipefail
mkdir -p "$1"
root=$(cd "$1" && pwd)
suite=${2:-trixie}
[[ -e $root/tools/qemu-nbd ]] && exit 0
packages=(base-files bash coreutils libc-bin libnbd-bin python3-libnbd python3-minimal qemu-utils)
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -n 1)

# An apt of its own, which knows of no installed package: so it fetches all that the clients depend on.
own=$root/apt
mkdir -p "$own"/{lists/partial,cache/archives/partial,etc/apt.conf.d,etc/preferences.d}
: >"$own/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no] ${mirror%/} $suite main" >"$own/sources.list"
cat >"$own/apt.conf" <<CONF
Dir "$own"; Dir::Etc "$own/etc"; Dir::Etc::sourcelist "$own/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::trustedparts "/dev/null";
Dir::State "$own"; Dir::State::lists "$own/lists"; Dir::State::status "$own/status"; Dir::Cache "$own/cache";
APT::Install-Recommends "false"; APT::Sandbox::User ""; Acquire::Languages "none"; Debug::NoLocking "true";
CONF
export APT_CONFIG=$own/apt.conf
apt-get -qq update
apt-get -qq -y --download-only install "${packages[@]}" >/dev/null
# base-files first: it has the links from /lib to /usr/lib.
for package in "$own"/cache/archives/base-files_*.deb "$own"/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -xf - -C "$root" --no-same-owner --keep-directory-symlink \
    --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale' --exclude='./dev/*'
done
rm -rf "$own"

# Each runs with the C library that it came with, which this machine's need not be.
loader=$(echo "$root"/usr/lib/*/ld-linux-*.so.*)
libraries=$(dirname "$loader")
mkdir "$root/tools.new"
script() { # name, words that run it
  printf '#!/bin/sh\nexec "%s" --library-path "%s" %s "$@"\n' "$loader" "$libraries" "$2" >"$root/tools.new/$1"
  chmod +x "$root/tools.new/$1"
}
for tool in nbdinfo nbdcopy nbddump qemu-img qemu-io qemu-nbd; do script "$tool" "\"$root/usr/bin/$tool\""; done
script nbdsh "\"$root/usr/bin/python3\" -m nbd"
sed -i "s|^exec|PYTHONHOME=\"$root/usr\" PYTHONPATH=\"$root/usr/lib/python3/dist-packages\" exec|" "$root/tools.new/nbdsh"
rm -rf "$root/tools"
mv "$root/tools.new" "$root/tools" # last, so that what is there is whole
