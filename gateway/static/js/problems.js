// What the page says about problems of the API.

const BY_TITLE = {
  "Unreadable image": "Damaged or incomplete file. Export it again.",
  "Out of scope": "This model was not made for this image or patient.",
  "Missing attribute": "This server needs to know more about the image; the details say what. Fill in age or view, then try again. The file must state everything else: send it as DICOM.",
  "Unlike the training images": "This image is unlike the images that this model was trained on, so it was not analysed.",
  "Unusable image": "This model cannot analyse this image.",
};

/** What the page says about an image that is just beyond the limit. */
export const NEAR_LIMIT = "This image is slightly beyond what this model accepts, so it was not analysed.";

const BY_STATUS = {
  400: "The server could not read this request.",
  401: "Enter the access key from your administrator.",
  403: "Your access key does not permit this.",
  404: "This model or result does not exist any more. Reload the page.",
  406: "No DICOM result is available.",
  408: "The upload was too slow. Try again.",
  413: "This file is too large.",
  415: "Unsupported file type. Export as DICOM, PNG or JPEG.",
  422: "This model cannot analyse this file.",
  429: "Too many requests. Wait a moment, then try again.",
  500: "The server made an error. Try again; if it happens again, contact your administrator.",
  502: "The analysis service is starting or down. Try again in a minute.",
  503: "The analysis service is busy or starting. Try again in a minute.",
  504: "The analysis took too long. Try again later.",
};

/** Return what the page says about a problem of the API. */
export function problemText(status, title = "") {
  return BY_TITLE[title] ?? BY_STATUS[status] ?? "The request failed. Try again; if it happens again, contact your administrator.";
}
