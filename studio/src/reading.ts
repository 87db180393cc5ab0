/** How far the reader is: the bar at the top, the section in the list of contents, and the sections
 * that were read, which the first page counts. All of it stays in this browser. */

const keyOf = (chapter: string) => `fromnoise.read.${chapter}`;

function readSections(chapter: string): Set<string> {
  try {
    const read: unknown = JSON.parse(localStorage.getItem(keyOf(chapter)) ?? "[]");
    return new Set(Array.isArray(read) ? read.map(String) : []);
  } catch {
    return new Set(); // storage is closed or damaged: nothing counts as read
  }
}

/** A section is read when its end has come into view. */
function keepRead(chapter: string, section: string) {
  try {
    const read = readSections(chapter).add(section);
    localStorage.setItem(keyOf(chapter), JSON.stringify([...read]));
  } catch {
    // Storage is closed: the page works, and forgets.
  }
}

export function followReading(): void {
  const page = document.querySelector<HTMLElement>("[data-chapter]");
  if (page) followChapter(page, page.dataset.chapter!);
  for (const card of document.querySelectorAll<HTMLElement>("[data-progress]")) {
    const many = Number(card.dataset.sections);
    const read = Math.min(many, readSections(card.dataset.progress!).size);
    if (read) card.querySelector(".read")!.textContent = read === many ? " · read" : ` · ${read} of ${many} sections read`;
  }
}

function followChapter(page: HTMLElement, chapter: string) {
  const sections = [...page.querySelectorAll<HTMLElement>("[data-section]")];
  const links = new Map(
    [...page.querySelectorAll<HTMLAnchorElement>(".contents a")].map((link) => [link.hash.slice(1), link]),
  );
  for (const id of readSections(chapter)) links.get(id)?.classList.add("read");

  // beside the text the list stands open; above it, it must not keep the reader from the text
  if (matchMedia("(min-width: 75rem)").matches) page.querySelector<HTMLDetailsElement>(".contents details")!.open = true;

  const bar = document.createElement("div");
  bar.className = "reading-bar";
  document.querySelector(".top")!.append(bar);

  let open = ""; // the section at the reader's eyes
  const follow = () => {
    const height = document.documentElement.scrollHeight - innerHeight;
    bar.style.scale = `${height > 0 ? Math.min(1, scrollY / height) : 1} 1`;
    const seen = sections.filter((section) => section.getBoundingClientRect().top < innerHeight * 0.4).at(-1);
    const id = seen?.id ?? "";
    if (id !== open) {
      links.get(open)?.removeAttribute("aria-current");
      links.get((open = id))?.setAttribute("aria-current", "true");
    }
    for (const section of sections) {
      const end = section.getBoundingClientRect().bottom;
      const link = links.get(section.id);
      if (end < innerHeight && end > -innerHeight && link && !link.classList.contains("read")) {
        link.classList.add("read");
        keepRead(chapter, section.id);
      }
    }
  };
  let asked = false;
  const soon = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      follow();
    });
  };
  addEventListener("scroll", soon, { passive: true });
  addEventListener("resize", soon);
  follow();
}
