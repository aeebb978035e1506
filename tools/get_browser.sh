#!/bin/sh
# Sees that there is a Chromium with its driver for the tests of the pages; where it can't be had, a sentence says so.
# Never fails: the tests that need it are then skipped.
set -u

there() {
    command -v chromedriver >/dev/null && { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null
}

there && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "No Chromium with its chromedriver here: the tests of the pages are skipped (on Debian, as root: apt-get install chromium chromium-driver)"
    exit 0
fi
echo '→ installing Chromium and its driver'
export DEBIAN_FRONTEND=noninteractive
quietly="timeout 300 apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=60"
install="$quietly install -y --no-install-recommends chromium chromium-driver fonts-dejavu-core"
$install >/dev/null 2>&1 || { $quietly update && $install; } >/dev/null 2>&1
there || echo "Chromium could not be installed (no network?): the tests of the pages are skipped"
exit 0
