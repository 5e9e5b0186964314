#!/usr/bin/env bash
# build.sh BIN_DIR HELM VERSITYGW: builds etcd, kube-apiserver, kube-controller-manager and kubectl (Kubernetes 1.36.3) as Go tools from the module file beside this
# script: no container and no downloaded binary is needed, and go.sum pins every source. 340 MB; about 5 minutes on 2 cores the first time (3 GB of Go's
# build cache, which may be deleted afterwards), nothing when BIN_DIR is filled. Each binary is moved into place whole, so a killed build leaves no half one.
set -euo pipefail
usage="usage: build.sh BIN_DIR HELM VERSITYGW"
bin=$(mkdir -p "${1:?$usage}" && cd "$1" && pwd)
helm=$(realpath -m "${2:?$usage}")
versitygw=$(realpath -m "${3:?$usage}")
cd "$(dirname "$0")"
export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -mod=readonly" GOTOOLCHAIN=local
# A third less CPU time for the build (kube-apiserver: 8 minutes instead of 13), and nothing here asks much of the binaries: fewer rounds of garbage collection in the compiler, no optimization.
export GOGC=400
gcflags="all=-N -l -dwarf=false"
v=k8s.io/component-base/version
flags="-s -w -X $v.gitVersion=v1.36.3 -X $v.gitMajor=1 -X $v.gitMinor=36"
for tool in \
  go.etcd.io/etcd/server/v3:etcd \
  k8s.io/kubernetes/cmd/kube-apiserver:kube-apiserver \
  k8s.io/kubernetes/cmd/kube-controller-manager:kube-controller-manager \
  k8s.io/kubernetes/cmd/kubectl:kubectl; do
  name=${tool#*:}
  [ -x "$bin/$name" ] && continue
  go build -trimpath -gcflags "$gcflags" -ldflags "$flags" -o "$bin/$name.part" "${tool%:*}"
  mv "$bin/$name.part" "$bin/$name"
done
# Helm and the S3 server versitygw need other versions of their modules, which Go's checksum database pins.
install_tool() {
  [ -x "$1" ] && return
  local scratch
  scratch=$(mktemp -d "$bin/tool-XXXXXX")
  GOBIN=$scratch go install -trimpath -gcflags "$gcflags" -ldflags "-s -w" "$2"
  mkdir -p "$(dirname "$1")"
  mv "$scratch/$(basename "$1")" "$1"
  rmdir "$scratch"
}
install_tool "$helm" helm.sh/helm/v4/cmd/helm@v4.3.1
install_tool "$versitygw" github.com/versity/versitygw/cmd/versitygw@v1.8.0
