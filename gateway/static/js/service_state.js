// What the page says about the state of the analysis service: `state`, `title`, `text`, `detail`, and what the user or the page can do.

const wait = (event) => `You can add files now. They are analysed when ${event}.`;

/** The service answers. */
export const READY = { state: "ready", title: "" };

/** The first response takes long. */
export const SLOW = { state: "loading", title: "Waiting for the server.", text: wait("it responds") };

/** The service is ready, and has no models. */
export const EMPTY = { state: "empty", title: "The server offers no models.", text: "Ask your administrator to add one; this page keeps checking.", retry: true };

/** The service lists its models, but says that it is not ready; `reason` is its own. */
export function starting(reason) {
  return { state: "starting", title: "The analysis service is starting.", text: wait("the service is ready"), detail: reason, retry: true, canOverride: true };
}

/** The service is not ready, but some of its models answer; `reason` is its own. */
export function partial(reason) {
  return { state: "partial", title: "Some models are not ready.", text: "You can use the others. Files for a model that is not ready wait for it.", detail: reason, retry: true, canOverride: true };
}

/** The list of models cannot be loaded; `reason` says why the service is not ready, null if it does not say. */
export function failed({ status, message, detail, retryAfter }, reason, isOnline) {
  if (status === 0 && !isOnline) return { state: "offline", title: "You are offline.", text: wait("you are connected"), retry: true };
  if (status === 0) return { state: "unreachable", title: "No connection to the server. Retrying.", text: wait("the server responds"), retry: true };
  if (status === 401) {
    return { state: "key", title: "Access key required.", text: "Enter the access key from your administrator. Files that you add are analysed after that.", action: { name: "connect", text: "Enter access key" } };
  }
  if (status === 403) {
    return { state: "forbidden", title: "Your access key does not permit this.", text: "Ask your administrator for a key with the role predict.", action: { name: "replaceKey", text: "Use another key" } };
  }
  if (status === 429) {
    return { state: "limited", title: "Too many requests.", text: "The server limits how often you may call it; this page continues when it may.", retry: true, after: retryAfter };
  }
  if ([502, 503, 504].includes(status)) {
    const title = reason === null ? "The analysis service is starting or down. Retrying." : "The analysis service is starting.";
    return { state: "starting", title, text: wait("it is ready"), detail: reason || detail, retry: true, after: Math.min(retryAfter, 5) };
  }
  return { state: "failed", title: "The list of models cannot be loaded.", text: message, detail, action: { name: "connect", text: "Try again" } };
}
