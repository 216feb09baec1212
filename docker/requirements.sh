#!/bin/sh
# Print the locked requirements of an image's environment: docker/requirements.sh server|server-cpu|gateway|train|lambda|lambda-image.
set -eu
cd "$(dirname "$0")/.."
export="uv export --quiet --locked --no-emit-project --no-header --no-annotate"
case "$1" in
train) exec $export --extra train ;;
# The writers of DICOM results and the PACS loop need no codecs.
gateway) exec $export --extra gateway --extra tracing --extra pacs --prune imagecodecs --prune pylibjpeg --prune pylibjpeg-rle ;;
# Without packages that the function does not need or that Lambda's runtime provides.
lambda) exec $export --extra gateway --prune boto3 --prune rich --prune stamina --prune typer --prune uvicorn ;;
lambda-image) exec $export --extra gateway --group lambda-image ;;
esac
leave_out="torchvision triton"
if [ "$1" = server-cpu ]; then
    # torch itself and the packages that only its CUDA build requires.
    leave_out="$leave_out torch $(sed -n 's/^name = "\(\(nvidia\|cuda\)-.*\)"$/\1/p' uv.lock)"
fi
set --
for name in $leave_out; do
    set -- "$@" --no-emit-package "$name"
done
exec $export --extra serve --extra deploy --extra tracing "$@"
