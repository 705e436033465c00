"use strict";
// By hand: a page is one file that loads nothing, so that a gallery's library would stand whole in each of them.
// What both pages share: elements, pictures that are decoded block by block, their boxes, the address, the dialog.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const COLOURS = ["#ffd23f", "#ff7ac6", "#7ee787", "#ffa657", "#d2a8ff", "#a5d6ff", "#ff938a", "#56d4dd", "#e3e35b", "#f2cc9b", "#c0f0a0", "#f0a8f0"];

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

// A name is a stranger's: what a browser would run is not opened by it, whatever it holds.
const MEDIA = /\.(avif?|bmp|dib|flv|gif|hei[cf]|jfif|jp2|jpe?g?|m4v|mkv|mov|mp4|mpe?g|mpo|p[bgnp]m|png|tiff?|web[mp]|wmv)$/i;

function wholeFile(path) {
  if (!MEDIA.test(path)) return "";
  const link = make("a", "hint", "open the file in full size");
  link.href = path;
  link.target = "_blank";
  return link;
}

function shape(tag, attributes, className) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (className) node.setAttribute("class", className);
  return node;
}

// Files beside a page that is too large for one: a script element loads each, as it does from a file system, too.
const chunks = (() => {
  const wanted = new Map();
  window.mgtoolChunk = (name, text) => {
    const { got, node } = wanted.get(name);
    wanted.delete(name);
    node.remove();
    got(JSON.parse(text));
  };
  return (name, got) => {
    if (wanted.has(name)) return;
    const node = make("script");
    wanted.set(name, { got, node });
    node.src = `${data.beside}/${name}.js`;
    document.head.append(node);
  };
})();

const picture = (() => {
  const KEPT = 24;
  const blocks = [...document.querySelectorAll("script.pictures")];
  const decoded = new Map();
  return (place) => {
    if (place < 0) return null;
    const block = Math.floor(place / data.perBlock);
    if (!decoded.has(block)) {
      if (decoded.size > KEPT) decoded.delete(decoded.keys().next().value);
      if (data.beside) {
        chunks(`pictures-${block}`, (found) => {
          decoded.set(block, found);
          dispatchEvent(new Event("pictures"));
        });
        return null;
      }
      decoded.set(block, JSON.parse(blocks[block].textContent));
    }
    return decoded.get(block)[place % data.perBlock];
  };
})();

// What is chosen stands in the address: a link or a reload shows the same.
const address = {
  read: () => new URLSearchParams(location.hash.slice(1)),
  write: (values) => {
    const params = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined));
    history.replaceState(null, "", `#${params.toString() || "gallery"}`);
  },
};

const colour = (() => {
  const known = new Map();
  return (label) => {
    if (!known.has(label)) known.set(label, COLOURS[known.size % COLOURS.length]);
    return known.get(label);
  };
})();

// Labels of boxes that begin at one corner stand below each other, and none leaves the picture.
function labelPlaces(rows, scale, [width, height]) {
  const taken = [];
  return rows.map(({ box, text, low }) => {
    const wide = (text.length * 6.8 + 4) * scale;
    const high = 15 * scale;
    const x = Math.min(Math.max(box[0], 0) + 4 * scale, Math.max(width - wide, 2 * scale));
    let y = Math.max(low ? box[3] - 5 * scale : Math.max(box[1], 0) + 14 * scale, 14 * scale);
    const covers = (one) => x < one.x + one.wide && x + wide > one.x && Math.abs(y - one.y) < high;
    while (taken.some(covers) && y + high < height) y += high;
    taken.push({ x, y, wide });
    return { x, y };
  });
}

// Rows: { box, className, text, low, stroke, strength, faint }; the first lie on top.
function overlay(size, rows, scale, labelled) {
  const svg = shape("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" });
  const texts = labelled ? labelPlaces(rows, scale, size) : [];
  rows.forEach(({ box, className, text, stroke, strength, faint }, number) => {
    const at = { x: box[0], y: box[1], width: Math.max(box[2] - box[0], 0), height: Math.max(box[3] - box[1], 0) };
    const group = shape("g", {}, faint ? "faint" : "");
    const rect = shape("rect", at, className);
    if (stroke) rect.style.stroke = stroke;
    if (strength) rect.style.strokeOpacity = strength;
    group.append(shape("rect", at, "under"), rect);
    if (labelled) {
      const label = shape("text", texts[number]);
      label.setAttribute("style", `font-size:${12 * scale}px;stroke-width:${3 * scale}px`);
      label.textContent = text;
      group.append(label);
    }
    svg.append(group);
  });
  for (const group of [...svg.children].reverse()) svg.append(group);
  return svg;
}

// A picture in a frame, what it shows told in words, with the boxes that `rows` gives.
function fillFrame(frame, pic, told, rows, { labelled = false, zoom = 1, missing = "no picture" } = {}) {
  frame.replaceChildren();
  if (!pic || (!pic.uri && !pic.size[0])) {
    frame.append(make("span", "", missing));
    return;
  }
  if (pic.uri) {
    const image = make("img");
    image.alt = told;
    image.draggable = false; // a finger or mouse moves the stage
    image.decoding = "sync"; // else it is missing from the first frame
    image.src = pic.uri;
    frame.append(image);
  }
  if (rows.length && pic.size[0]) {
    const [width, height] = [frame.clientWidth, frame.clientHeight];
    const scale = width ? 1 / Math.min(width / pic.size[0], height / pic.size[1]) : 1;
    frame.append(overlay(pic.size, rows, scale / zoom, labelled));
  }
}

// Which labels' boxes are drawn: a switch for each, where there are several.
function labelSwitches(labels, hidden, changed) {
  const counts = new Map();
  for (const label of labels) counts.set(label, (counts.get(label) || 0) + 1);
  const box = make("div", "labels");
  if (counts.size < 2) return box;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Labels whose boxes are drawn");
  for (const [label, count] of counts) {
    const button = make("button", "chip", `${label} ${count}`);
    button.type = "button";
    button.style.setProperty("--chip", colour(label));
    button.setAttribute("aria-pressed", String(!hidden.has(label)));
    button.addEventListener("click", () => {
      if (hidden.has(label)) hidden.delete(label);
      else hidden.add(label);
      button.setAttribute("aria-pressed", String(!hidden.has(label)));
      changed();
    });
    box.append(button);
  }
  return box;
}

// The dialog: one of `count()` items at a time, by buttons, keys and touch, its picture as large as one likes.
function viewer({ count, draw, opened, closed }) {
  const dialog = $("detail");
  const stage = $("stage");
  const view = make("div", "view");
  const MOST = 16;
  let at = -1;
  let zoom = 1;
  let [x, y] = [0, 0];

  function place() {
    const [roomX, roomY] = [(stage.clientWidth * (zoom - 1)) / 2, (stage.clientHeight * (zoom - 1)) / 2];
    x = Math.min(Math.max(x, -roomX), roomX);
    y = Math.min(Math.max(y, -roomY), roomY);
    view.style.transform = zoom === 1 ? "" : `translate(${x}px, ${y}px) scale(${zoom})`;
    stage.classList.toggle("zoomed", zoom > 1);
    $("zoom").textContent = `${Math.round(zoom * 100)} %`;
  }

  function zoomTo(wanted, event) {
    const before = zoom;
    zoom = Math.min(Math.max(wanted, 1), MOST);
    if (event) {
      const room = stage.getBoundingClientRect();
      const [px, py] = [event.clientX - room.left - room.width / 2, event.clientY - room.top - room.height / 2];
      x = px - ((px - x) * zoom) / before;
      y = py - ((py - y) * zoom) / before;
    }
    place();
    draw(at, view, zoom);
  }

  // As many pixels of the screen as the stored picture has: of what the page holds, or of the file itself.
  function fullSize() {
    const image = view.querySelector("img");
    if (!image) return;
    const shown = Math.min(stage.clientWidth / image.naturalWidth, stage.clientHeight / image.naturalHeight);
    zoomTo(zoom > 1 ? 1 : Math.max(1 / shown, 2));
  }

  function open(next) {
    if (next < 0 || next >= count()) return;
    at = next;
    if (!dialog.open) dialog.showModal();
    [zoom, x, y] = [1, 0, 0];
    stage.replaceChildren(view);
    place();
    draw(at, view, zoom);
    $("previous").disabled = at === 0;
    $("next").disabled = at === count() - 1;
    $("place").textContent = `${(at + 1).toLocaleString("en")} of ${count().toLocaleString("en")}`;
    opened(at);
  }

  function close() {
    dialog.close();
    closed(at);
  }

  const KEYS = {
    ArrowRight: () => open(at + 1), j: () => open(at + 1), ArrowLeft: () => open(at - 1), k: () => open(at - 1),
    Home: () => open(0), End: () => open(count() - 1),
    "+": () => zoomTo(zoom * 1.5), "=": () => zoomTo(zoom * 1.5), "-": () => zoomTo(zoom / 1.5), 0: () => zoomTo(1), z: fullSize,
  };
  $("previous").addEventListener("click", () => open(at - 1));
  $("next").addEventListener("click", () => open(at + 1));
  $("close").addEventListener("click", close);
  $("closer").addEventListener("click", () => zoomTo(zoom * 1.5));
  $("further").addEventListener("click", () => zoomTo(zoom / 1.5));
  $("zoom").addEventListener("click", fullSize);
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    close();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) close();
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomTo(zoom * Math.exp(-event.deltaY / 400), event);
  }, { passive: false });
  stage.addEventListener("dblclick", fullSize);

  // One finger goes through the items, or moves what is enlarged; two enlarge.
  const fingers = new Map();
  let from = null;
  const apart = () => {
    const [one, two] = [...fingers.values()];
    return Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY);
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button, a")) return;
    fingers.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
    from = { px: event.clientX, py: event.clientY, x, y, zoom, apart: fingers.size === 2 ? apart() : 0 };
  });
  stage.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, event);
    if (fingers.size === 2 && from.apart) zoomTo((from.zoom * apart()) / from.apart);
    else if (zoom > 1) {
      [x, y] = [from.x + event.clientX - from.px, from.y + event.clientY - from.py];
      place();
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    stage.addEventListener(name, (event) => {
      if (!fingers.delete(event.pointerId) || fingers.size || !from) return;
      const moved = event.clientX - from.px;
      if (name === "pointerup" && from.zoom === 1 && zoom === 1 && Math.abs(moved) > 60 && Math.abs(event.clientY - from.py) < 60) {
        open(moved < 0 ? at + 1 : at - 1);
      }
      from = null;
    });
  }
  addEventListener("resize", () => {
    if (dialog.open) zoomTo(zoom);
  });

  return {
    open,
    at: () => at,
    repaint: () => {
      if (dialog.open) draw(at, view, zoom);
    },
    // Whether a key was one of the dialog's.
    pressed: (event) => {
      if (!dialog.open || !KEYS[event.key]) return dialog.open;
      KEYS[event.key]();
      event.preventDefault();
      return true;
    },
  };
}

$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (document.documentElement.dataset.theme === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
});
$("tools").addEventListener("submit", (event) => event.preventDefault());
