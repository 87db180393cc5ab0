// Runs before the page is painted, so that a chosen theme does not flash in the other one.
try {
  const theme = localStorage.getItem("fromnoise.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is closed: the system's theme stays.
}
