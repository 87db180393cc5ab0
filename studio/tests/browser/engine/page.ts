/** What engine.test.ts drives: the engine and Python alone, without the site's pages. */

import { createEngine } from "../../../src/engine/engine.ts";
import { createPython } from "../../../src/engine/python.ts";

const root = new URL("./", document.baseURI).href;
const python = createPython(root);
Object.assign(window, { engine: createEngine(root, python), python });
