#!/bin/sh
# Runs Kubernetes' own end-to-end suite against a running cluster:
#   conformance.sh E2E_TEST [FOCUS [SKIP]]     E2E_TEST is upstream's binary of that name; by default, [Conformance] runs
# KUBECONFIG names the cluster; KUBECTL the kubectl that the suite calls; REPORTS the directory for its JUnit reports.
# The images it wants (E2E_TEST --list-images) must be there or reachable. Prints the failures; ends as the suite ends.
set -eu
suite=$1
focus=${2:-\[Conformance\]}
# Out of scope for now, or not for one node.
skip=${3:-\[Disruptive\]|AdmissionWebhook|CustomResource|Aggregator}
reports=${REPORTS:-$(mktemp -d)}
: "${KUBECONFIG:?names the cluster}"
status=0
"$suite" --ginkgo.focus="$focus" --ginkgo.skip="$skip" --ginkgo.noColor --provider=skeleton --kubeconfig="$KUBECONFIG" \
    --num-nodes=1 --disable-log-dump --kubectl-path="${KUBECTL:-kubectl}" --report-dir="$reports" \
    > "$reports/log" 2>&1 || status=$?
sed -n '/^Summarizing/,$p' "$reports/log" | grep -E '^\[Fail\]|^Ran |Passed' || tail -n 1 "$reports/log"
echo "reports: $reports"
exit "$status"
