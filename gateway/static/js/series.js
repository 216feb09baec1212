// Finds the slices of one examination among files, and orders them. Pure: files are read before.

const MAX_SKEW = 1e-3; // of direction cosines from perpendicular unit vectors, as handlers/dicom/image_plane.py
const MIN_COSINE = 0.9998; // between the normals of parallel slices, and
const MIN_DISTANCE = 0.01; // mm between two slices, as handlers/volume.py
const MAX_DISTANCE = 50; // mm between two slices,
const MAX_STEP = 3.5; // distance as a multiple of the usual one, and
const MAX_VARIATION = 0.1; // between distances that slices state of themselves, as there
const IRREGULAR = 0.1; // share of the usual distance by which another one differs visibly
const SMALLEST = { dicom: 2, names: 3 }; // slices
const TOMOGRAPHIC = new Set(["MR", "CT", "PT"]);
const IDENTITY = ["series", "study", "patient", "frame", "rows", "columns"]; // what the slices of one examination have in common
const byName = new Intl.Collator("en", { numeric: true }).compare;

/**
 * Split files into series of DICOM slices, groups of numbered names that may be series, and the rest.
 *
 * `items` have a `path`, `header` (of `dicom_header.js`, or null) and `isImage`. Each group of `series` and `numbered`
 * has its items in order; see `stack`.
 */
export function splitSeries(items) {
  const { true: slices = [], false: others = [] } = Object.groupBy(items, ({ header }) => String(isSlice(header)));
  const series = groups(slices, ({ header }) => JSON.stringify(IDENTITY.map((name) => header[name])), SMALLEST.dicom).flatMap(byFolder);
  const numbered = groups(others.filter(({ isImage, path }) => isImage && pattern(path) !== null), ({ path }) => pattern(path), SMALLEST.names)
    .filter((group) => new Set(group.map(({ path }) => numberOf(path))).size === group.length);
  const grouped = new Set([...series.flatMap(({ items: placed }) => placed), ...numbered.flat()]);
  return {
    series,
    numbered: numbered.map((group) => stack(group, "names")),
    rest: items.filter((item) => !grouped.has(item)),
  };
}

const groups = (items, key, smallest) => [...Map.groupBy(items, key).values()].filter((group) => group.length >= smallest);

/** Stack a group; one whose folders interleave is split by folder, because some anonymisers give several series one UID. */
function byFolder(group) {
  const whole = stack(group, "dicom");
  const jumps = whole.items.filter((item, index) => index > 0 && folderOf(item) !== folderOf(whole.items[index - 1])).length;
  return jumps < foldersOf(group).size ? [whole] : groups(group, folderOf, SMALLEST.dicom).map((part) => stack(part, "dicom"));
}

const folderOf = ({ path }) => path.split("/").slice(0, -1).join("/");

/** Return the folders of items. */
export const foldersOf = (items) => new Set(items.map(folderOf));

/** Whether a file is one slice: several films of one DICOM series, as of an X-ray unit, are not a stack. */
const isSlice = (header) => Boolean(header?.series) && (header.frames ?? 1) <= 1 && (header.position !== null || TOMOGRAPHIC.has(header.modality));

const NUMBER = /^(.*?)(\d+)(\D*)$/;

/** Return a path with its last number left out: the slices of one examination have the same; null without a number. */
function pattern(path) {
  const match = NUMBER.exec(path.replace(/\.[^./]{1,8}$/, ""));
  if (match === null || match[2].length > 9 || match[0].slice(match[1].length).includes("/")) return null;
  return `${match[1].replace(/\d+$/, "")}#${match[3]}${path.slice(match[0].length)}`;
}

const numberOf = (path) => Number(NUMBER.exec(path.replace(/\.[^./]{1,8}$/, ""))[2]);

/**
 * Order the slices of one examination.
 *
 * Returns `items` in `order` (by `position`, `instance` or `name`), their `places` along the normal in mm or null, the
 * `extent` of each along the stack in mm or null, the usual `distance` in mm or null, `gaps` (`after` an index, `missing`
 * slices), `duplicates` (indices of slices at the place of the one before), the `fault` of distances that measure nothing
 * or null, and whether the stack `isParallel` and `isIrregular`.
 */
export function stack(group, kind) {
  const { order, place, isParallel } = ordering(group, kind);
  const sorted = group.map((item) => ({ item, place: place(item) })).sort((one, other) => one.place - other.place || byName(one.item.path, other.item.path));
  const items = sorted.map(({ item }) => item);
  const places = sorted.map(({ place: value }) => value);
  const steps = order === "none" ? [] : places.slice(1).map((next, index) => next - places[index]);
  const apart = steps.filter((step) => step >= MIN_DISTANCE);
  const isMeasured = order === "position";
  const usual = isMeasured ? median(apart) : 1; // numbers of instances and names count slices
  const extent = isMeasured ? halves(steps) : items.map(({ header }) => header?.between ?? header?.thickness ?? null);
  return {
    kind, order, items, extent, isParallel,
    fault: isMeasured ? stepFault(steps, usual) : statedFault(items, extent),
    places: isMeasured ? places : null,
    distance: isMeasured ? usual : median(extent.filter((length) => length !== null)),
    gaps: usual === null ? [] : gapsOf(steps, usual),
    duplicates: steps.flatMap((step, index) => (step < MIN_DISTANCE ? [index + 1] : [])),
    isIrregular: isMeasured && apart.some((step) => Math.abs(step / usual - Math.round(step / usual)) > IRREGULAR),
  };
}

/** Return what orders a group, and the place of an item in it. */
function ordering(group, kind) {
  if (kind === "names") return { order: "name", place: ({ path }) => numberOf(path), isParallel: true };
  const normals = group.map(({ header }) => normal(header.orientation)).filter((vector) => vector !== null);
  const isParallel = normals.every((vector) => dot(vector, normals[0]) >= MIN_COSINE);
  const hasPlaces = isParallel && normals.length === group.length && group.every(({ header }) => header.position !== null);
  if (hasPlaces) return { order: "position", place: ({ header }) => dot(header.position, normals[0]), isParallel };
  if (group.every(({ header }) => header.instance !== null)) return { order: "instance", place: ({ header }) => header.instance, isParallel };
  return { order: "none", place: () => 0, isParallel }; // by name
}

/** Return half the distance to either neighbour; a slice at an end is symmetric. */
const halves = (steps) => [...steps, steps.at(-1)].map((after, index) => ((steps[index - 1] ?? steps[0]) + after) / 2);

/** Return why measured distances give no volume, as handlers/volume.py; null if they do. */
function stepFault(steps, usual) {
  const widest = Math.max(...steps);
  if (widest > MAX_DISTANCE) return `a slice distance is above ${MAX_DISTANCE} mm`;
  return widest > MAX_STEP * usual ? "too many neighbouring slices are missing" : null;
}

/** Return why the distances that slices state of themselves give no volume; null if they do, or are absent. */
function statedFault(items, extent) {
  if (items.some(({ header }) => header?.position)) return "the position or orientation of some slices is unknown";
  if (extent.includes(null)) return null;
  const isMixed = new Set(items.map(({ header }) => header.between === null)).size > 1;
  if (isMixed || Math.max(...extent) > (1 + MAX_VARIATION) * Math.min(...extent)) return "the slices state different distances";
  return Math.max(...extent) > MAX_DISTANCE ? `a slice distance is above ${MAX_DISTANCE} mm` : null;
}

const gapsOf = (steps, usual) => steps.flatMap((step, index) => (Math.round(step / usual) > 1 ? [{ after: index, missing: Math.round(step / usual) - 1 }] : []));

const dot = (one, other) => one.reduce((sum, value, index) => sum + value * other[index], 0);

/** Return the unit vector perpendicular to a slice (PS3.3 C.7.6.2.1.1); null if it is unknown. */
function normal(orientation) {
  if (!orientation) return null;
  const [row, column] = [orientation.slice(0, 3), orientation.slice(3)];
  const isSkewed = [dot(row, row) ** 0.5 - 1, dot(column, column) ** 0.5 - 1, dot(row, column)].some((value) => Math.abs(value) > MAX_SKEW);
  return isSkewed ? null : [0, 1, 2].map((axis) => row[(axis + 1) % 3] * column[(axis + 2) % 3] - row[(axis + 2) % 3] * column[(axis + 1) % 3]);
}

function median(values) {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted.length ? sorted[Math.floor((sorted.length - 1) / 2)] : null;
}
