# Shared by scripts/* and .ci/run, which source it: finds what the system lacks,
# installs it and makes the virtual environment. stdout is never written to:
# it belongs to the program that runs afterwards.
# shellcheck shell=bash

SETUP_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
ROOT=${SETUP_FILE%/scripts/lib/*}
VENV=$ROOT/.venv
STAMP=$VENV/.proctree-bpf-setup

# Not the first python3 on PATH: only the distribution's sees the distribution's BCC.
PYTHON=/usr/bin/python3

# What each level needs, as probe:Debian package:Fedora package.
NEEDS_RUN=(
  python:python3:python3
  venv:python3-venv:python3
  certificates:ca-certificates:ca-certificates
  bcc:python3-bpfcc:python3-bcc
)
NEEDS_TEST=(
  gcc:gcc:gcc
  libc_headers:libc6-dev:glibc-devel
  tmux:tmux:tmux
  strace:strace:strace
  make:make:make
  setpriv:util-linux:util-linux
  pivot_root:util-linux-extra:util-linux
  capsh:libcap2-bin:libcap
)
# Beside the Python that is there in any case.
NEEDS_VM=(
  qemu-system-x86_64:qemu-system-x86:qemu-system-x86-core
  mmdebstrap:mmdebstrap:mmdebstrap
  mke2fs:e2fsprogs:e2fsprogs
  debian_keys:debian-archive-keyring:debian-keyring
  pip:python3-pip:python3-pip
  apt-get:apt:apt
  dpkg:dpkg:dpkg
  zstd:zstd:zstd
  newuidmap:uidmap:shadow-utils
)
NEEDS_BOX=("${NEEDS_VM[@]}" qemu-img:qemu-utils:qemu-img)
NEEDS_VAGRANT=(
  "${NEEDS_BOX[@]}"
  vagrant:vagrant:vagrant
  vagrant_libvirt:vagrant-libvirt:vagrant-libvirt
  libvirtd:libvirt-daemon-system:libvirt-daemon
  libvirt_qemu:libvirt-daemon-driver-qemu:libvirt-daemon-driver-qemu
  virsh:libvirt-clients:libvirt-client
  ip:iproute2:iproute
  setpriv:util-linux:util-linux
  dnsmasq:dnsmasq-base:dnsmasq
  iptables:iptables:iptables
  ssh:openssh-client:openssh-clients
  rsync:rsync:rsync
)

readonly UNABLE=77

say() { printf 'proctree-bpf: %s\n' "$*" >&2; }

die() {
  local status=$1
  shift
  say "$*"
  exit "$status"
}

# Runs a command unheard unless it fails.
quiet() {
  local output status=0
  output=$("$@" 2>&1 </dev/null 9<&-) || status=$?
  if ((status)); then printf '%s\n' "$output" >&2; fi
  return "$status"
}

have() { PATH=$PATH:/usr/sbin:/sbin type -P "$1" >/dev/null; }

probe() {
  case $1 in
    python) [[ -x $PYTHON ]] ;;
    venv) "$PYTHON" -I -c 'import ensurepip, venv' 2>/dev/null ;;
    # A project on PyPI has the name bcc too; only BCC has BPF.
    bcc) "$PYTHON" -I -c 'import bcc; bcc.BPF' 2>/dev/null ;;
    certificates) [[ -s /etc/ssl/certs/ca-certificates.crt || -d /etc/pki/ca-trust ]] ;;
    debian_keys) [[ -s /usr/share/keyrings/debian-archive-keyring.gpg ]] ;;
    pip) "$PYTHON" -I -m pip --version >/dev/null 2>&1 ;;
    vagrant_libvirt) compgen -G '/usr/share/rubygems-integration/*/gems/vagrant-libvirt-*' >/dev/null ;;
    libvirt_qemu) compgen -G '/usr/lib*/*/libvirt/connection-driver/libvirt_driver_qemu.so' >/dev/null ;;
    libc_headers) [[ -e /usr/include/stdio.h ]] ;;
    *) have "$1" ;;
  esac
}

# missing LEVEL: the needs that are not met, one a line.
missing() {
  local needs=("${NEEDS_RUN[@]}") need
  case $1 in
    test) needs+=("${NEEDS_TEST[@]}") ;;
    vm) needs=("${NEEDS_VM[@]}") ;;
    box) needs=("${NEEDS_BOX[@]}") ;;
    vagrant) needs=("${NEEDS_VAGRANT[@]}") ;;
  esac
  for need in "${needs[@]}"; do
    probe "${need%%:*}" || printf '%s\n' "$need"
  done
}

# become_root ELSE: makes as_root usable, or says what ELSE to do.
become_root() {
  if ((EUID == 0)); then return; fi
  if have sudo; then
    if sudo -n true 2>/dev/null; then return; fi
    if [[ -t 0 && -t 2 ]] && sudo -v; then return; fi
  fi
  die "$UNABLE" "$1"
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"
}

install_packages() {
  local level=$1 lines debian fedora
  lines=$(missing "$level")
  if [[ -z $lines ]]; then return; fi
  mapfile -t debian < <(cut -d: -f2 <<<"$lines")
  mapfile -t fedora < <(cut -d: -f3 <<<"$lines" | sort -u)

  if ! have apt-get; then
    die "$UNABLE" "this system has no apt-get; install these packages (Fedora's names) and run this again: ${fedora[*]}"
  fi
  become_root "packages are missing and only root may install them; as root, run 'apt-get install ${debian[*]}', then run this again"

  say "installing ${debian[*]} ..."
  quiet apt_get update -o APT::Update::Error-Mode=any || say "apt-get update failed (see above); going on with the package lists at hand"
  quiet apt_get install --no-install-recommends "${debian[@]}" ||
    die 1 "apt-get could not install ${debian[*]} (see above)"

  lines=$(missing "$level")
  if [[ $lines == *bcc:* ]]; then
    "$PYTHON" -I -c 'import bcc; print(bcc.__file__); bcc.BPF' >&2 || true
    die 1 "python3-bpfcc is installed, but another or a broken bcc module is in its place (see above)"
  fi
  if [[ -n $lines ]]; then die 1 "still missing after the installation:" "$lines"; fi
}

check_python() {
  "$PYTHON" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$UNABLE" "Python 3.11 or newer is needed and $PYTHON is $("$PYTHON" -V 2>&1); use Debian 12, Ubuntu 24.04 or newer"
}

# make_venv DIR PIP-ARGS...
make_venv() {
  local venv=$1
  shift
  say "making the virtual environment $venv ..."
  quiet "$PYTHON" -I -m venv --system-site-packages "$venv" || die 1 "could not make $venv (see above)"
  say "installing Python packages into it ..."
  # --ignore-installed: a package of the system's is not there for good, nor for other users.
  quiet "$venv/bin/python" -I -m pip install -q --disable-pip-version-check --no-input \
    --ignore-installed "$@" || die 1 "pip failed (see above)"
  # Root runs it: what is imported is neither the environment's nor the user's business, and
  # --system-site-packages lets in the user's own packages too, ahead of the system's bcc.
  # The second form is pip's for a path with spaces. Ctrl-C waits until the program is ready for it:
  # what Python and pip import before would be interrupted with a traceback.
  sed -i -E -e "1s|^(#!/.*/python[0-9.]*)\$|\\1 -IS|" \
    -e "2s|^('''exec' .*) \"\\\$0\"|\\1 -IS \"\$0\"|" \
    -e '/^import re$/d' -e '/= re\.sub\(/d' \
    -e 's/^import sys$/import _signal\n_signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])\nimport site\nsite.main()\n&/' \
    "$venv/bin/proctree-bpf"
}

slurp() { IFS= read -r -d '' "$1" <"$2" || true; }

# What a venv depends on that may change under it, as one string in REPLY.
venv_key() {
  local setup pyproject
  slurp setup "$SETUP_FILE"
  slurp pyproject "$ROOT/pyproject.toml"
  REPLY=$ROOT$'\n'$setup$pyproject
}

# ready LEVEL: every run passes through here, so it starts no process.
ready() {
  local level='' python='' bcc='' key='' REPLY
  [[ -r $STAMP ]] || return 1
  {
    read -r level
    read -r python
    read -r bcc
    IFS= read -r -d '' key || true
  } <"$STAMP"
  venv_key
  [[ $key == "$REPLY" && ($1 == run || $level == test) &&
    $PYTHON -ef $python && $VENV/bin/python -ef $python &&
    -e $bcc && -x $VENV/bin/proctree-bpf ]]
}

stamp() {
  local bcc REPLY
  bcc=$("$VENV/bin/python" -I -c 'import bcc; bcc.BPF; print(bcc.__file__)') ||
    die 1 "the new virtual environment does not see BCC (see above)"
  venv_key
  printf '%s\n%s\n%s\n%s' "$1" "$(readlink -f "$PYTHON")" "$bcc" "$REPLY" >"$STAMP.new"
  mv "$STAMP.new" "$STAMP"
}

check_writable() {
  local dir
  if [[ -e $VENV ]] && ! [[ -w $VENV && (-O $VENV || $EUID -eq 0) ]]; then
    die "$UNABLE" "$VENV is incomplete or out of date, and belongs to another user; run this again with sudo, or remove it with 'sudo rm -r $VENV'"
  fi
  for dir in "$ROOT" "$ROOT/.cache"; do
    if [[ -e $dir && ! -w $dir ]]; then
      die "$UNABLE" "making the virtual environment needs to write to $dir, and you may not; run this again with sudo"
    fi
  done
}

# Puts a working old environment back when its replacement could not be finished.
restore_venv() {
  if [[ -e $STAMP || ! -e $OLD_VENV ]]; then return; fi
  rm -rf -- "$VENV"
  mv -- "$OLD_VENV" "$VENV"
}

set_up() {
  local level=$1 before='' extras=''
  # Who tests here goes on to, also when it is a run that finds the environment out of date.
  if [[ -r $STAMP ]]; then read -r before <"$STAMP" || true; fi
  if [[ $before == test ]]; then level=$before; fi
  umask 022
  check_writable
  install_packages "$level"
  check_python
  if [[ $level == test ]]; then extras='[test]'; fi
  OLD_VENV=$ROOT/.cache/venv.old
  mkdir -p "$ROOT/.cache"
  rm -rf -- "$OLD_VENV"
  if [[ -e $STAMP ]]; then mv -- "$VENV" "$OLD_VENV"; fi
  rm -rf -- "$VENV"
  trap restore_venv EXIT
  make_venv "$VENV" -e "$ROOT$extras"
  stamp "$level"
  rm -rf -- "$OLD_VENV"
  say "ready"
}

# lock FILE: waits for, and holds to the end of the subshell, the lock on file descriptor 9.
lock() {
  if flock -n 9; then return; fi
  say "waiting for another setup to finish ..."
  flock 9
}

# ensure_venv LEVEL: LEVEL is run, or test for the test suite's needs as well.
ensure_venv() {
  if ready "$1"; then return; fi
  (
    lock
    if ! ready "$1"; then set_up "$1"; fi
  ) 9<"$ROOT/pyproject.toml"
}
