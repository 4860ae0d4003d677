// Runs before the page is painted, so that a dark page never flashes white; app.js does the rest.
(() => {
  try {
    const kept = JSON.parse(localStorage.getItem("mien.settings") || "{}");
    if (kept.theme === "light" || kept.theme === "dark") document.documentElement.dataset.theme = kept.theme;
  } catch {
    // A browser that keeps nothing, or something else under this name: the system's theme is used.
  }
})();
