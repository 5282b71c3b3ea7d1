#!/bin/sh
# Make the CA and the certificates of alpha, beta and gamma in a folder, each node's files in a folder of its own.
# What exists stays as it is. Usage: certificates.sh FOLDER
set -eu
umask 077
cd "$1"
[ -e ca/ca.pem ] || parleyd cert ca --out ca
for node in alpha beta gamma; do
    [ -e "$node/$node.pem" ] || parleyd cert node "$node" --host "$node" --host localhost --ca ca --out "$node"
    cp ca/ca.pem "$node/ca.pem"
done
