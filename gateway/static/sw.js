// Service worker: stores the files of the page for use without a connection; never predictions, images, cards or keys.
// Stored files are used only if the server is unreachable, so that a new release takes effect immediately.

const CACHE = "radserve-shell";
const SHELL = [
  "./", "manifest.webmanifest", "icons/icon.svg", "icons/icon-192.png",
  "css/base.css", "css/layout.css", "css/result.css", "css/history.css", "css/batch.css", "css/cases.css", "css/print.css", "css/series.css", "css/stored.css", "css/viewer.css",
  "js/analyse.js", "js/analysis.js", "js/api.js", "js/assurances.js", "js/batch.js", "js/batch_detail.js", "js/batch_export.js", "js/batch_filter.js",
  "js/batch_head.js", "js/batch_rows.js", "js/batch_table.js", "js/cases.js", "js/cases_row.js", "js/catalog.js", "js/choice.js", "js/chooser.js", "js/claims.js", "js/colour_map.js",
  "js/contour.js", "js/crc32.js", "js/csv.js", "js/dicom_downloads.js", "js/dicom_header.js", "js/dicom_values.js", "js/display.js", "js/dom.js", "js/domain.js",
  "js/evidence.js", "js/file_type.js", "js/format.js", "js/frames.js", "js/heat_map.js", "js/history.js", "js/history_address.js", "js/history_comparison.js", "js/history_delete.js", "js/history_filters.js",
  "js/history_groups.js", "js/history_result.js", "js/history_row.js", "js/incoming.js", "js/key_dialog.js", "js/latest.js", "js/legend.js",
  "js/main.js", "js/missing_image.js", "js/model_card.js", "js/model_panel.js", "js/models.js", "js/overlay_view.js", "js/parallel.js", "js/pictures.js",
  "js/prediction.js", "js/predictive_values.js", "js/prevalence.js", "js/probabilities.js", "js/problems.js", "js/queue.js", "js/recent_files.js",
  "js/rejections.js", "js/result.js", "js/safe_html.js", "js/samples.js", "js/series.js", "js/series_downloads.js", "js/series_notes.js", "js/series_pictures.js",
  "js/series_rejections.js", "js/series_request.js", "js/series_start.js", "js/series_summary.js", "js/series_view.js", "js/service.js", "js/service_state.js",
  "js/slice_scroll.js", "js/stored_result.js", "js/stored_series.js", "js/strip.js", "js/theme.js", "js/thumbnails.js", "js/upload.js", "js/verdict.js", "js/viewer.js",
  "js/viewer_gestures.js", "js/waiting_list.js", "js/window_level.js", "js/windowing.js", "js/zip_reader.js", "js/zip_writer.js",
].map((path) => new URL(path, self.registration.scope).href);

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(self.clients.claim());
});

self.addEventListener("fetch", (event) => {
  const url = event.request.url.split(/[?#]/)[0];
  if (event.request.method === "GET" && SHELL.includes(url)) event.respondWith(networkFirst(event.request, url));
});

async function networkFirst(request, url) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(url, response.clone());
    return response;
  } catch (error) {
    const stored = await cache.match(url);
    if (stored) return stored;
    throw error;
  }
}
