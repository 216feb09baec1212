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

/** Return a version; reloads the catalog if the version is newer than the page. */
export async function findVersion(name, version) {
  if (knownVersion(name, version) === null) await loadCatalog();
  return knownVersion(name, version);
}
