// Addresses of the history view: the filtered list, one result, and two results side by side.

const ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const OPENED = new RegExp(`^#history/(${ID})(?:/(${ID}))?$`);
const SERIES = new RegExp(`^#history/series/(${ID})$`);
const LIST = /^#history(?:\?(.*))?$/;

/** Names of the filters, in addresses as in the API; `since` and `until` are dates in addresses. */
export const FILTERS = ["model", "version", "label", "positive", "explain", "since", "until", "image", "text"];

/**
 * Parse a hash: `ids` are those of the results to show, `group` that of results that were sent together; none for a list.
 *
 * `filters` has the values that are set, `cursors` the pages up to the current one, without the first.
 */
export function parseAddress(hash) {
  const opened = OPENED.exec(hash);
  if (opened) return { ids: opened.slice(1).filter(Boolean), group: null, filters: {}, cursors: [] };
  const series = SERIES.exec(hash);
  if (series) return { ids: [], group: series[1], filters: {}, cursors: [] };
  const parameters = new URLSearchParams(LIST.exec(hash)?.[1] ?? "");
  const filters = Object.fromEntries(FILTERS.map((name) => [name, parameters.get(name)?.trim() ?? ""]).filter(([, value]) => value));
  return { ids: [], group: null, filters, cursors: parameters.getAll("cursor").filter(Boolean) };
}

/** Return the address of a page of the list. */
export function listAddress(filters, cursors = []) {
  const pairs = [...FILTERS.filter((name) => filters[name]).map((name) => [name, filters[name]]), ...cursors.map((cursor) => ["cursor", cursor])];
  return pairs.length ? `#history?${new URLSearchParams(pairs)}` : "#history";
}

/** Return the address of one result, or of two side by side. */
export const resultAddress = (...ids) => `#history/${ids.join("/")}`;

/** Return the address of results that were sent together, as one series. */
export const seriesAddress = (group) => `#history/series/${group}`;

/** Return the query of the API: dates become local midnights, the last day counts to its end. */
export function apiQuery(filters) {
  const parameters = new URLSearchParams(FILTERS.filter((name) => filters[name]).map((name) => [name, filters[name]]));
  for (const [name, days] of [["since", 0], ["until", 1]]) {
    const time = parameters.has(name) ? midnight(parameters.get(name), days) : null;
    if (time !== null) parameters.set(name, time); // the API says what is wrong with another text
  }
  return parameters;
}

function midnight(date, days) {
  if (!/^\d{4,6}-\d\d-\d\d$/.test(date)) return null;
  const start = new Date(`${date}T00:00`);
  start.setDate(start.getDate() + days);
  return Number.isNaN(start.getTime()) ? null : start.toISOString();
}
