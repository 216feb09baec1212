// Before anything is drawn: the colours that were chosen here, so that the page does not flash in the other ones.
(() => {
  try {
    const chosen = localStorage.getItem("radserve.theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage may be forbidden; then the system's choice holds.
  }
})();
