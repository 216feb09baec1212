// Shows the OpenAPI document with Swagger UI. URLs are relative, because the gateway may be served below a prefix.

const response = await fetch("openapi.json");
const spec = await response.json();
spec.servers = [{ url: new URL("..", location.href).href.replace(/\/$/, "") }];

SwaggerUIBundle({
  spec,
  domNode: document.getElementById("documentation"),
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // a service of other people
  onComplete: () => { document.documentElement.dataset.ready = ""; },
});
