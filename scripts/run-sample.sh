#!/bin/sh
# Starts Hythe in the background and brings the guestbook up: run-sample.sh "HYTHE" PORT IMAGES
set -eu
hythe=$1 port=$2 images=$3
$hythe status > /dev/null 2>&1 || $hythe up --detach --port "$port"

# The images: what is here, else from the registry, else assembled from Debian packages.
for pair in redis-7=redis:7 python-3-slim=python:3-slim; do
    file=${pair%%=*} name=${pair#*=}
    if $hythe image inspect "$name" > /dev/null 2>&1; then continue; fi
    if timeout 60 $hythe image pull "$name" > /dev/null 2>&1; then continue; fi
    echo "no registry has $name: assembling it from Debian packages"
    sh examples/guestbook/images.sh "$images" "$file" > /dev/null
    $hythe image import "$images/$file.tar" "$name"
done

$hythe apply -f examples/guestbook.yaml
url=http://127.0.0.1:30080/
tries=0
until curl -fsS -m 2 -o /dev/null "$url" 2> /dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -ge 300 ]; then
        echo "the guestbook does not answer at $url" >&2
        $hythe get pods >&2
        exit 1
    fi
    sleep 0.2
done
$hythe get pods,services
kubeconfig=$($hythe status | sed -n 's/^kubeconfig: *//p')
cat << END

The guestbook answers at $url

  curl -d 'hello' $url && curl ${url}entries
  export KUBECONFIG=$kubeconfig
  kubectl get all
  kubectl scale deployment/frontend --replicas=5
  kubectl logs -l tier=frontend
  make stop        # ends it all and leaves no trace
END
