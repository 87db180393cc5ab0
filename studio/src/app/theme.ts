/** Light or dark: the system's, until the person chooses. public/theme.js applies it before paint. */

export const isDark = (): boolean => {
  const { theme } = document.documentElement.dataset;
  return theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
};

export function toggleTheme(): boolean {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("fromnoise.theme", theme);
  } catch {
    // Storage is closed: the choice holds for this page.
  }
  return theme === "dark";
}
