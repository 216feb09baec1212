// Catalog: the models that the server offers, and their versions.

import { get } from "./api.js";

let models = [];

/** All models of the catalog. */
export const allModels = () => models;

/** Load the catalog; throws a Problem. */
export async function loadCatalog() {
  ({ models } = await (await get("api/models")).json());
}

/** Return a model of the loaded catalog; null if it is not served. */
export const knownModel = (name) => models.find((model) => model.name === name) ?? null;

/** Return a version of the loaded catalog; null if it is not served. */
export function knownVersion(name, version) {
  return knownModel(name)?.versions.find((item) => item.version === version) ?? null;
}

/** Return the version that a result of the history is from; null if it is not served, or from another archive. */
export function archiveVersion({ model, version, sha256 }) {
  const known = knownVersion(model, version);
  return known === null || (sha256 ?? known.sha256) === known.sha256 ? known : null;
}

/** Whether a version is served with the site profile of a prediction. */
export const hasSameProfile = (version, { profile }) => (version.profile?.sha256 ?? null) === (profile?.sha256 ?? null);

/** Return how many held-out images a model rejects; null if that is unknown, or if the server chooses among versions. */
export function rejectionsOf({ name, version }) {
  const versions = knownModel(name)?.versions.filter((item) => version === null || item.version === version) ?? [];
  return versions.length === 1 ? versions[0].rejections ?? null : null;
}

/** Whether the server says that a model answers now: its version, or all versions of which the server may choose one. */
export function isAnswering({ name, version }) {
  const versions = knownModel(name)?.versions.filter((item) => (version === null ? item.share > 0 : item.version === version)) ?? [];
  return versions.length > 0 && versions.every(({ ready }) => ready === true);
}

/**
 * Return the version that describes a prediction, null if it is not served. `reload` is called if the catalog
 * describes another archive or site profile, as after a restart of the server; if it still does, figures are omitted.
 */
export async function findVersion({ model, profile }, reload) {
  const find = () => knownVersion(model.name, model.version);
  const isCurrent = (version) => version !== null && (model.sha256 === null || version.sha256 === model.sha256)
    && hasSameProfile(version, { profile });
  if (!isCurrent(find())) await reload();
  const version = find();
  return version === null || isCurrent(version) ? version : { ...version, figures: {}, uncertain: null, held_out: null, rejections: null };
}
