/** Writes data as a JSON file that the browser saves. */

/** JSON text; typed arrays become lists, and numbers that JSON lacks become their names. */
export function toJson(data: unknown): string {
  return JSON.stringify(
    data,
    (_, value: unknown) => {
      if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number>);
      if (typeof value === "number" && !Number.isFinite(value)) return String(value);
      return value;
    },
    1,
  );
}

export function saveJson(name: string, data: unknown): void {
  const url = URL.createObjectURL(new Blob([toJson(data)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
