#!/bin/sh
# Scatter/gather over nine leaves of two replicas each, every answer slow one time in a hundred: the p99 with and without
# second requests, and how many requests more that took. REQUESTS sets how many (default 2000).
set -eu
cd "$(dirname "$0")/.."
exec cargo bench --locked -p scatter --bench hedging
