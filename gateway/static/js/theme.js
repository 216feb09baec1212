// Applies the stored colour theme before the first paint, so that the page does not flash.
(() => {
  try {
    const theme = localStorage.getItem("radserve.theme");
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden; the system's theme applies.
  }
})();
