// Makes predictions with the types of openapi-typescript: node client.js URL BASE64. Prints the labels of the results.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: [string, string, string, string] };

const [, , baseUrl, image] = process.argv;
const client = createClient<paths, `application/${string}`>({ baseUrl }); // not text/event-stream, which an operation can return too
const params = { path: { name: "chest" } };
const bytes = Uint8Array.from(atob(image), (character) => character.charCodeAt(0));

type Item = { label: string } | { detail: string };

function labels(result: { data?: Item | { predictions: Item[] }; error?: unknown }): string[] {
  if (result.data === undefined) throw new Error(JSON.stringify(result.error));
  const items = "predictions" in result.data ? result.data.predictions : [result.data];
  return items.map((item) => ("label" in item ? item.label : item.detail));
}

const fromJson = await client.POST("/api/predictions/{name}", { params, body: { image } });
const fromList = await client.POST("/api/predictions/{name}", { params, body: { instances: [{ b64: image }, { b64: "?" }] } });
const fromBytes = await client.PUT("/api/predictions/{name}", {
  params,
  body: image,
  bodySerializer: () => bytes,
  headers: { "Content-Type": "application/octet-stream" },
});
const fromForm = await client.POST("/api/predictions/{name}/files", {
  params,
  body: { file: [image, image] },
  bodySerializer: (body) => {
    const form = new FormData();
    for (const _ of body.file) form.append("file", new Blob([bytes]), "film.png");
    return form;
  },
});
const fromTensor = await client.POST("/v2/models/{name}/infer", {
  params,
  body: { inputs: [{ name: "image", shape: [1], datatype: "BYTES", data: [image] }] },
});
const unknown = await client.POST("/api/predictions/{name}", { params: { path: { name: "X" } }, body: { image } });

console.log(JSON.stringify({
  json: labels(fromJson),
  list: labels(fromList),
  bytes: labels(fromBytes),
  form: labels(fromForm),
  tensor: fromTensor.data?.outputs.find((output) => output.name === "label")?.data,
  problem: unknown.error?.status,
}));
