// Many requests of one kind: a few at a time, and patient with the rate limit.

const PARALLEL = 4;
const ATTEMPTS = 10; // at a request that exceeds the rate limit

/** Map items with a few requests at a time. */
export async function inParallel(items, load) {
  const done = [];
  let next = 0;
  const work = async () => {
    while (next < items.length) {
      const at = next++;
      done[at] = await load(items[at]);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  return done;
}

/** Repeat a request that exceeds the rate limit, when the server permits it, a few times. */
export async function patiently(load, signal = null) {
  for (let attempt = 1; ; attempt += 1) {
    signal?.throwIfAborted();
    try {
      return await load();
    } catch (error) {
      if (error.status !== 429 || attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.max(1, error.retryAfter)));
    }
  }
}
