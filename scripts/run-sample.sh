#!/bin/sh
# Starts Hythe in the background and brings the guestbook up: run-sample.sh "HYTHE" PORT IMAGES
set -eu
hythe=$1 port=$2 images=$3
$hythe status > /dev/null 2>&1 || $hythe up --detach --port "$port"

# The images: what is here, else built from Dockerfiles on root file systems assembled from Debian packages.
for image in redis=redis-7=redis:7 python=python-3-slim=python:3-slim; do
    folder=${image%%=*} name=${image##*=} packages=${image#*=}
    packages=${packages%=*}
    if $hythe image inspect "$name" > /dev/null 2>&1; then continue; fi
    echo "building $name"
    sh examples/guestbook/images.sh "$images" "$packages" > /dev/null
    $hythe build --tag "$name" --file "examples/guestbook/$folder/Dockerfile" "$images"
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
