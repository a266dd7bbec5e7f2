#!/usr/bin/env bash
# unpack-packages.sh CACHE NAME SUITE PACKAGE...: unpacks packages of a later Debian suite, with all that they need, into a folder, and prints
# that folder. Nothing is installed, nothing outside CACHE is changed, and any user may do it. Needs apt, dpkg and Debian's keyring; the
# packages come from where this machine's own come from.
# CACHE/NAME is a link to the tree; the tree's name is the checksum of its packages' checksums. While the link is there nothing is asked of
# the network; with REFRESH=1 the suite is looked at again, and a tree of the same packages is not unpacked twice.
set -euo pipefail
cache=$1 name=$2 suite=$3
shift 3
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
if [[ -e $cache/$name/packages.sha256 && ${REFRESH:-} != 1 ]]; then
  readlink -f "$cache/$name"
  exit
fi
exec 9>"$cache/.lock-$name"
flock 9 # two test files may ask for the same tree
if [[ -e $cache/$name/packages.sha256 && ${REFRESH:-} != 1 ]]; then
  readlink -f "$cache/$name"
  exit
fi

work=$(mktemp -d "$cache/.new-XXXXXX")
trap 'rm -rf "$work"' EXIT
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -n 1)
[[ -n $mirror ]] || { echo "apt has no source of packages: run apt-get update" >&2; exit 1; }

# An apt of its own, which knows of no installed package: so it fetches all that the packages depend on.
own=$work/apt root=$work/root
mkdir -p "$own"/{lists/partial,cache/archives/partial,etc/apt.conf.d,etc/preferences.d} "$root"
: >"$own/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no] ${mirror%/} $suite main" >"$own/sources.list"
cat >"$own/apt.conf" <<CONF
Dir "$own"; Dir::Etc "$own/etc"; Dir::Etc::sourcelist "$own/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::trustedparts "/dev/null";
Dir::State "$own"; Dir::State::lists "$own/lists"; Dir::State::status "$own/status"; Dir::Cache "$own/cache";
APT::Install-Recommends "false"; APT::Sandbox::User ""; Acquire::Languages "none"; Acquire::Retries "3"; Debug::NoLocking "true";
CONF
export APT_CONFIG=$own/apt.conf
packages=(base-files bash coreutils grep libc-bin "$@")
apt-get -qq -o APT::Update::Error-Mode=any update >&2
apt-get -qq -y --print-uris install "${packages[@]}" | awk '{ print $NF, $2 }' | sort >"$work/wanted"
tree=$cache/$name-$(sha256sum <"$work/wanted" | cut -c 1-16)
if [[ ! -e $tree/packages.sha256 ]]; then
  apt-get -qq -y --download-only install "${packages[@]}" >&2
  # base-files first: it has the links from /lib to /usr/lib.
  for package in "$own"/cache/archives/base-files_*.deb "$own"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -xf - -C "$root" --no-same-owner --keep-directory-symlink \
      --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale' --exclude='./usr/share/info' --exclude='./dev/*'
  done
  # What the packages' own scripts would have done, as far as a server in a tree of its own needs it.
  mkdir -p "$root"/{proc,dev,sys,tmp,mnt,etc}
  echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  echo '127.0.0.1 localhost' >"$root/etc/hosts"
  (cd "$own/cache/archives" && sha256sum -- *.deb) >"$root/packages.sha256"
  rm -rf "$tree"
  mv "$root" "$tree" # last, so that what is there is whole
fi
ln -sfn "$(basename "$tree")" "$cache/$name"
echo "$tree"
