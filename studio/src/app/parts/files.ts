/** Whether a file that is dropped there is taken by the browser: by a field for files. */
export const isFileField = (target: EventTarget | null): boolean => target instanceof HTMLInputElement && target.type === "file";
