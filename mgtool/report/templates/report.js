
(() => {
  const CARD = { width: 268, height: 338, gap: 14 };
  const PRINTED = 60;
  const state = { search: "", result: "all", fields: {}, bin: "", sort: "", boxes: true, hidden: new Set(), shown: data.items };

  const kind = (item) => (item.score >= 0.999999 ? "right" : item.score > 0 ? "partly" : "wrong");
  const SIGN = { right: "✓", partly: "≈", wrong: "✗" };
  const flipped = (item) => item.flip && (item.flip[0] >= 0.5) !== (item.flip[1] >= 0.5);
  function prepare(item) {
    item.kind = kind(item);
    item.hay = [item.id, item.question, item.answer, item.target, item.image].filter(Boolean).join("\n").toLowerCase();
    return item;
  }
  data.items.forEach(prepare);

  const told = (item) => [item.question, item.image].filter(Boolean).join(": ") || `item ${item.id}`;

  const effect = (box) => `${box[5]} ${box[4] > 0 ? "−" : "+"}${Math.abs(box[4]).toFixed(2)}`;

  // What each box did to the answer: the stronger the more, the strongest on top.
  function effects(item, seen) {
    const most = Math.max(...item.effects.map((box) => Math.abs(box[4])), 1e-9);
    return item.effects.filter((box) => seen(box[5])).map((box) => ({
      box, className: box[4] <= 0 ? "for" : "against", text: effect(box), strength: 0.25 + (0.75 * Math.abs(box[4])) / most,
    }));
  }

  function rows(item, labelled) {
    const pic = picture(item.picture);
    if (!pic || !state.boxes) return [];
    const seen = (label) => !labelled || !state.hidden.has(label);
    const found = item.effects ? effects(item, seen) : pic.boxes.filter((box) => seen(box[5])).map((box) => ({
      box, className: "found", text: `${box[5]} ${box[4].toFixed(2)}`, stroke: labelled ? colour(box[5]) : "",
    }));
    const expected = pic.objects.filter((box) => seen(box[4])).map((box) => ({ box, className: "object", text: box[4] || "", low: true }));
    return [...found, ...expected];
  }

  function fill(frame, item, labelled, zoom) {
    fillFrame(frame, picture(item.picture), told(item), rows(item, labelled), { labelled, zoom, missing: item.image || "no picture" });
  }

  const score = (item) => (item.status !== "answered" ? item.status : item.kind === "partly" ? item.score.toFixed(2) : item.kind);
  const badge = (item) => make("span", `badge ${item.kind}`, `${SIGN[item.kind]} ${score(item)}`);

  function flipBadge(item) {
    return make("span", "badge flip", `${item.flip[0].toFixed(2).replace(".00", "")} → ${item.flip[1].toFixed(2).replace(".00", "")}`);
  }

  function pair(name, value) {
    const line = make("span", "pair");
    line.append(make("span", "", name), make("span", "", value === null || value === "" ? "–" : value));
    return line;
  }

  function card(item, place) {
    const node = make("button", "item");
    node.type = "button";
    node.dataset.place = place;
    const frame = make("span", "frame");
    const text = make("span", "text");
    text.append(make("span", "question", item.question || item.image || item.id), pair("answer", item.answer), pair("target", item.target));
    node.append(frame, text);
    return [node, frame];
  }

  const grid = $("grid");
  const alive = new Map();
  let layout = { columns: 1, width: CARD.width };

  function measure() {
    const room = grid.clientWidth;
    const columns = Math.max(1, Math.floor((room + CARD.gap) / (CARD.width + CARD.gap)));
    layout = { columns, width: (room - CARD.gap * (columns - 1)) / columns };
    const lines = Math.ceil(state.shown.length / columns);
    grid.style.height = `${Math.max(lines * (CARD.height + CARD.gap) - CARD.gap, 0)}px`;
  }

  // Reading order is the order of the page, wherever one scrolled from.
  function put(place) {
    const [node, frame] = card(state.shown[place], place);
    const entry = make("li");
    entry.setAttribute("aria-posinset", place + 1);
    entry.setAttribute("aria-setsize", state.shown.length);
    const step = CARD.height + CARD.gap;
    entry.style.cssText = `left:${(place % layout.columns) * (layout.width + CARD.gap)}px;top:${Math.floor(place / layout.columns) * step}px;width:${layout.width}px;height:${CARD.height}px`;
    entry.append(node);
    const after = [...alive.keys()].filter((other) => other > place);
    grid.insertBefore(entry, after.length ? alive.get(Math.min(...after)) : null);
    alive.set(place, entry);
    fill(frame, state.shown[place], false, 1);
    frame.append(badge(state.shown[place]));
    if (state.shown[place].flip) frame.append(flipBadge(state.shown[place]));
  }

  function paint(anew) {
    if (anew) {
      alive.clear();
      grid.replaceChildren();
    }
    const step = CARD.height + CARD.gap;
    const top = -grid.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor((top - 600) / step)) * layout.columns;
    const to = Math.min(state.shown.length, Math.ceil((top + innerHeight + 600) / step) * layout.columns);
    for (const [place, entry] of alive) {
      if (place < from || place >= to) {
        entry.remove();
        alive.delete(place);
      }
    }
    for (let place = from; place < to; place += 1) if (!alive.has(place)) put(place);
  }

  const RESULTS = {
    all: () => true,
    right: (item) => item.kind === "right",
    partly: (item) => item.kind === "partly",
    wrong: (item) => item.kind === "wrong",
    flipped,
    "no answer": (item) => item.status !== "answered",
  };
  const drawn = (item) => (picture(item.picture) || { boxes: [] }).boxes.length;
  const SORTS = {
    changed: ["changed first", (one, two) => (two.flip ? Math.abs(two.flip[1] - two.flip[0]) : -1) - (one.flip ? Math.abs(one.flip[1] - one.flip[0]) : -1)],
    worst: ["lowest score first", (one, two) => one.score - two.score],
    best: ["highest score first", (one, two) => two.score - one.score],
    boxes: ["most boxes first", (one, two) => drawn(two) - drawn(one)],
    question: ["by question", (one, two) => one.question.localeCompare(two.question)],
    id: ["by id", (one, two) => one.id.localeCompare(two.id, "en", { numeric: true })],
  };

  function remember(item) {
    const result = state.result === "all" ? "" : state.result;
    const fields = Object.fromEntries(Object.entries(state.fields).map(([name, value]) => [`field.${name}`, value]));
    address.write({ search: state.search, result, bin: state.bin, sort: state.sort, ...fields, item: item ? item.id : "" });
  }

  function apply() {
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    state.shown = data.items.filter((item) =>
      RESULTS[state.result](item)
      && words.every((word) => item.hay.includes(word))
      && (!state.bin || item.bin === state.bin)
      && Object.entries(state.fields).every(([name, value]) => !value || item.fields[name] === value));
    if (SORTS[state.sort]) state.shown = [...state.shown].sort(SORTS[state.sort][1]);
    $("shown").textContent = `${state.shown.length.toLocaleString("en")} of ${data.items.length.toLocaleString("en")}`;
    $("none").hidden = state.shown.length > 0;
    grid.hidden = state.shown.length === 0;
    for (const button of $("result").children) button.setAttribute("aria-pressed", String(button.dataset.result === state.result));
    measure();
    paint(true);
  }

  function change(values) {
    Object.assign(state, values);
    apply();
    remember();
  }

  function choose(result) {
    if ([...$("result").children].some((button) => button.dataset.result === result)) change({ result });
  }

  function select(name, first, values, set) {
    const node = make("select");
    node.setAttribute("aria-label", name);
    node.dataset.field = name;
    node.append(new Option(first, ""), ...values.map(([value, text]) => new Option(text, value)));
    node.addEventListener("change", () => {
      set(node.value);
      change({});
    });
    $("selects").append(node);
  }

  function fact(list, name, value, mono) {
    if (value === null || value === undefined || value === "") return;
    const entry = make("div");
    entry.append(make("dt", "", name), make("dd", mono ? "mono" : "", value));
    list.append(entry);
  }

  // Both runs next to each other, where this item was compared.
  function sideBySide(item) {
    const box = make("div", "sides");
    for (const [name, answer, value] of [["first run", item.flip[2], item.flip[0]], ["this run", item.answer, item.flip[1]]]) {
      const side = make("div");
      side.append(make("b", "", name), make("span", "", answer === null ? "none" : answer), make("span", "dim", `score ${+value.toFixed(4)}`));
      box.append(side);
    }
    return box;
  }

  function facts(item) {
    const list = make("dl");
    if (!item.flip) fact(list, "answer", item.answer === null ? `none (${item.status})` : item.answer);
    if (item.read !== item.answer) fact(list, "read as", item.read);
    fact(list, "target", item.target);
    fact(list, "score", String(+item.score.toFixed(4)));
    for (const [name, value] of Object.entries(item.fields)) fact(list, name.replaceAll("_", " "), value);
    const pic = picture(item.picture);
    if (item.effects) {
      fact(list, "boxes shown", "by what each did to the answer's log-probability: blue (solid) raised it, orange (dotted) lowered it");
      fact(list, "the most", item.effects.slice(0, 5).map(effect).join(", "));
    } else if (pic && pic.boxes.length) fact(list, "boxes shown", `${pic.boxes.length} found (solid)${pic.objects.length ? `, ${pic.objects.length} expected (dashed)` : ""}`);
    fact(list, "picture", item.image, true);
    if (pic && pic.size[0]) fact(list, "size", `${pic.size[0]} × ${pic.size[1]} pixels`);
    fact(list, "id", item.id, true);
    const file = data.files && item.image && !/^\/|^\.\.|\/\.\.|:/.test(item.image);
    const path = file && [data.files, item.image].map((part) => part.split("/").map(encodeURIComponent).join("/")).join("/");
    const labels = pic ? [...(item.effects || pic.boxes).map((box) => box[5]), ...pic.objects.map((box) => box[4] || "")] : [];
    $("facts").replaceChildren(
      badge(item), ...(item.flip ? [flipBadge(item)] : []), make("h3", "", item.question || item.image || item.id),
      ...(item.flip ? [sideBySide(item)] : []), labelSwitches(labels, state.hidden, () => dialog.repaint()), list, ...(file ? [wholeFile(path)] : []));
    $("facts").scrollTop = 0;
  }

  const dialog = viewer({
    count: () => state.shown.length,
    draw: (at, view, zoom) => fill(view, state.shown[at], true, zoom),
    opened: (at) => {
      facts(state.shown[at]);
      remember(state.shown[at]);
    },
    closed: (at) => {
      remember();
      const entry = alive.get(at);
      if (entry) entry.firstChild.focus();
    },
  });

  function toggleBoxes(value) {
    state.boxes = value;
    $("boxes").checked = value;
    paint(true);
    dialog.repaint();
  }

  const KEYS = {
    "/": () => $("search").focus(),
    a: () => choose("all"),
    r: () => choose("right"),
    w: () => choose("wrong"),
    f: () => choose("flipped"),
    b: () => toggleBoxes(!state.boxes),
  };

  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    if ($("detail").open && event.key === "b") toggleBoxes(!state.boxes);
    else if (dialog.pressed(event)) return;
    else if (/INPUT|SELECT/.test(event.target.tagName)) {
      if (event.key === "Escape") event.target.blur();
    } else if (KEYS[event.key]) {
      event.preventDefault();
      KEYS[event.key]();
    }
  });

  grid.addEventListener("click", (event) => {
    const node = event.target.closest(".item");
    if (node) dialog.open(Number(node.dataset.place));
  });
  $("boxes").addEventListener("change", () => toggleBoxes($("boxes").checked));
  // Escape clears a search field without an `input` event.
  for (const name of ["input", "search"]) $("search").addEventListener(name, () => change({ search: $("search").value }));
  $("reset").addEventListener("click", () => {
    $("search").value = "";
    for (const node of $("selects").children) if (node.dataset.field !== "order") node.value = "";
    change({ search: "", result: "all", fields: {}, bin: "" });
  });
  addEventListener("scroll", () => requestAnimationFrame(() => paint(false)), { passive: true });
  addEventListener("resize", () => {
    measure();
    paint(true);
  });
  // On paper the first items stand below each other, as there is no scrolling.
  addEventListener("beforeprint", () => {
    for (let place = 0; place < Math.min(PRINTED, state.shown.length); place += 1) if (!alive.has(place)) put(place);
  });
  addEventListener("afterprint", () => paint(true));

  function results() {
    $("result").replaceChildren();
    for (const result of Object.keys(RESULTS)) {
      const count = data.items.filter(RESULTS[result]).length;
      if (result !== "all" && (!count || (result === "flipped" && !data.compared))) continue;
      const button = make("button", "", `${result} ${count.toLocaleString("en")}`);
      button.type = "button";
      button.dataset.result = result;
      button.addEventListener("click", () => choose(result));
      $("result").append(button);
    }
  }
  results();
  for (const [name, values] of Object.entries(data.filters)) {
    select(name, `${name.replaceAll("_", " ")}: all`, values.map((value) => [value, value || "(empty)"]), (value) => { state.fields[name] = value; });
  }
  if (data.boxBins.length) select("boxes", "boxes: all", data.boxBins.map((bin) => [bin, bin]), (value) => { state.bin = value; });
  const orders = Object.entries(SORTS).filter(([name]) => (name !== "changed" || data.compared) && (name !== "boxes" || (data.boxBins.length && !data.beside)));
  select("order", "order of the input", orders.map(([name, [text]]) => [name, text]), (value) => { state.sort = value; });

  function restore() {
    const wanted = address.read();
    const fields = Object.fromEntries(Object.keys(data.filters).map((name) => [name, wanted.get(`field.${name}`) || ""]));
    const result = RESULTS[wanted.get("result")] ? wanted.get("result") : "all";
    Object.assign(state, { search: wanted.get("search") || "", result, bin: wanted.get("bin") || "", sort: wanted.get("sort") || "", fields });
    $("search").value = state.search;
    const values = { ...fields, boxes: state.bin, order: state.sort };
    for (const node of $("selects").children) node.value = values[node.dataset.field] || "";
    apply();
    if ([...wanted].some(([, value]) => value)) $("gallery").scrollIntoView();
    if (wanted.has("item")) dialog.open(state.shown.findIndex((item) => item.id === wanted.get("item")));
  }

  // The items of a large page come in chunks, one after the other; what is shown stays while more arrive.
  function load(next) {
    chunks(`items-${next}`, (found) => {
      data.items.push(...found.map(prepare));
      results();
      const isLast = next + 1 === data.chunks;
      if (next === 0 || isLast) restore();
      else apply();
      if (!isLast) load(next + 1);
    });
  }

  addEventListener("hashchange", restore);
  addEventListener("pictures", () => {
    paint(true);
    dialog.repaint();
  });
  if (data.chunks) load(0);
  else restore();
})();
