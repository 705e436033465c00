(() => {
  const CARD = { width: 268, height: 338, gap: 14 };
  const state = { search: "", result: "all", fields: {}, bin: "", boxes: true, shown: data.items, at: -1 };

  const kind = (item) => (item.score >= 0.999999 ? "right" : item.score > 0 ? "partly" : "wrong");
  const SIGN = { right: "✓", partly: "≈", wrong: "✗" };
  const flipped = (item) => item.flip && (item.flip[0] >= 0.5) !== (item.flip[1] >= 0.5);
  for (const item of data.items) {
    item.kind = kind(item);
    item.hay = [item.id, item.question, item.answer, item.target, item.image].filter(Boolean).join("\n").toLowerCase();
  }

  const effect = (box) => `${box[4] > 0 ? "−" : "+"}${Math.abs(box[4]).toFixed(2)}`;

  function overlay(pic, effects, labels, scale) {
    const svg = shape("svg", { viewBox: `0 0 ${pic.size[0]} ${pic.size[1]}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" });
    const draw = (box, className, label, baseline, strength = 1) => {
      const at = { x: box[0], y: box[1], width: Math.max(box[2] - box[0], 0), height: Math.max(box[3] - box[1], 0) };
      svg.append(shape("rect", at, "under"), shape("rect", { ...at, "stroke-opacity": strength }, className));
      if (labels) {
        const text = shape("text", { x: box[0] + 4 * scale, y: Math.max(baseline, 14 * scale) });
        text.setAttribute("style", `font-size:${12 * scale}px;stroke-width:${3 * scale}px`);
        text.textContent = label;
        svg.append(text);
      }
    };
    for (const box of pic.objects) draw(box, "object", box[4], box[3] - 5 * scale);
    const most = Math.max(...(effects || []).map((box) => Math.abs(box[4])), 1e-9);
    for (const box of (effects || []).slice().reverse()) {
      const strength = 0.25 + (0.75 * Math.abs(box[4])) / most;
      draw(box, box[4] <= 0 ? "for" : "against", `${box[5]} ${effect(box)}`, box[1] + 14 * scale, strength);
    }
    for (const box of effects ? [] : pic.boxes) draw(box, "found", `${box[5]} ${box[4].toFixed(2)}`, box[1] + 14 * scale);
    return svg;
  }

  function fill(frame, item, labels) {
    const pic = picture(item.picture);
    if (!pic || (!pic.uri && !pic.size[0])) {
      frame.append(make("span", "", item.image || "no picture"));
      return;
    }
    if (pic.uri) {
      const image = make("img");
      image.alt = "";
      image.decoding = "sync";
      image.src = pic.uri;
      frame.append(image);
    }
    if (state.boxes && pic.size[0]) {
      const room = frame.getBoundingClientRect();
      const scale = room.width ? 1 / Math.min(room.width / pic.size[0], room.height / pic.size[1]) : 1;
      frame.append(overlay(pic, item.effects, labels, scale));
    }
  }

  const score = (item) => (item.status !== "answered" ? item.status : item.kind === "partly" ? item.score.toFixed(2) : item.kind);
  const badge = (item) => make("span", `badge ${item.kind}`, `${SIGN[item.kind]} ${score(item)}`);

  function flipBadge(item) {
    return make("span", "badge flip", `${item.flip[0].toFixed(2).replace(".00", "")} → ${item.flip[1].toFixed(2).replace(".00", "")}`);
  }

  function pair(name, value) {
    const line = make("div", "pair");
    line.append(make("span", "", name), make("span", "", value === null || value === "" ? "–" : value));
    return line;
  }

  function card(item, place) {
    const node = make("button", "item");
    node.type = "button";
    node.dataset.place = place;
    node.setAttribute("role", "listitem");
    node.setAttribute("aria-label", `${item.kind}: ${item.question || item.id}`);
    const frame = make("div", "frame");
    fill(frame, item, false);
    frame.append(badge(item));
    if (item.flip) frame.append(flipBadge(item));
    const text = make("div", "text");
    text.append(make("div", "question", item.question || item.image || item.id), pair("answer", item.answer), pair("target", item.target));
    node.append(frame, text);
    return node;
  }

  const grid = $("grid");
  const alive = new Map();
  let layout = { columns: 1, width: CARD.width };

  function measure() {
    const room = grid.clientWidth;
    const columns = Math.max(1, Math.floor((room + CARD.gap) / (CARD.width + CARD.gap)));
    layout = { columns, width: (room - CARD.gap * (columns - 1)) / columns };
    const rows = Math.ceil(state.shown.length / columns);
    grid.style.height = `${Math.max(rows * (CARD.height + CARD.gap) - CARD.gap, 0)}px`;
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
    for (const [place, node] of alive) {
      if (place < from || place >= to) {
        node.remove();
        alive.delete(place);
      }
    }
    for (let place = from; place < to; place += 1) {
      if (alive.has(place)) continue;
      const node = card(state.shown[place], place);
      node.style.cssText = `left:${(place % layout.columns) * (layout.width + CARD.gap)}px;top:${Math.floor(place / layout.columns) * step}px;width:${layout.width}px;height:${CARD.height}px`;
      alive.set(place, node);
      grid.append(node);
    }
  }

  const RESULTS = {
    all: () => true,
    right: (item) => item.kind === "right",
    partly: (item) => item.kind === "partly",
    wrong: (item) => item.kind === "wrong",
    flipped,
    "no answer": (item) => item.status !== "answered",
  };

  function apply() {
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    state.shown = data.items.filter((item) =>
      RESULTS[state.result](item)
      && words.every((word) => item.hay.includes(word))
      && (!state.bin || item.bin === state.bin)
      && Object.entries(state.fields).every(([name, value]) => !value || item.fields[name] === value));
    $("shown").textContent = `${state.shown.length.toLocaleString("en")} of ${data.items.length.toLocaleString("en")}`;
    $("none").hidden = state.shown.length > 0;
    for (const button of $("result").children) button.setAttribute("aria-pressed", String(button.dataset.result === state.result));
    measure();
    paint(true);
  }

  function choose(result) {
    if (![...$("result").children].some((button) => button.dataset.result === result)) return;
    state.result = result;
    apply();
  }

  function select(name, values, set) {
    const node = make("select");
    node.setAttribute("aria-label", name);
    node.dataset.field = name;
    node.append(new Option(`${name.replaceAll("_", " ")}: all`, ""), ...values.map((value) => new Option(value || "(empty)", value)));
    node.addEventListener("change", () => {
      set(node.value);
      apply();
    });
    $("selects").append(node);
  }

  function facts(item) {
    const box = $("facts");
    const list = make("dl");
    const add = (name, value, mono) => {
      if (value === null || value === undefined || value === "") return;
      const entry = make("div");
      entry.append(make("dt", "", name), make("dd", mono ? "mono" : "", value));
      list.append(entry);
    };
    add("answer", item.answer === null ? `none (${item.status})` : item.answer);
    if (item.read !== item.answer) add("read as", item.read);
    add("target", item.target);
    if (item.flip) add("the first run's answer", item.flip[2]);
    add("score", String(+item.score.toFixed(4)));
    for (const [name, value] of Object.entries(item.fields)) add(name.replaceAll("_", " "), value);
    const pic = picture(item.picture);
    if (item.effects) {
      add("boxes shown", "what each did to the answer's log-probability: blue raised it, orange lowered it");
      add("most", item.effects.slice(0, 5).map((box) => `${box[5]} ${effect(box)}`).join(", "));
    } else if (pic && pic.boxes.length) add("boxes shown", `${pic.boxes.length} found (solid)${pic.objects.length ? `, ${pic.objects.length} expected (dashed)` : ""}`);
    add("picture", item.image, true);
    add("id", item.id, true);
    box.replaceChildren(badge(item), ...(item.flip ? [flipBadge(item)] : []), make("h3", "", item.question || item.image || item.id), list);
    box.scrollTop = 0;
  }

  function open(place) {
    if (place < 0 || place >= state.shown.length) return;
    state.at = place;
    if (!$("detail").open) $("detail").showModal();
    $("stage").replaceChildren();
    fill($("stage"), state.shown[place], true);
    facts(state.shown[place]);
    location.replace(`#item=${encodeURIComponent(state.shown[place].id)}`);
  }

  function close() {
    $("detail").close();
    history.replaceState(null, "", "#gallery");
    const node = alive.get(state.at);
    if (node) node.focus();
  }

  function toggleBoxes(value) {
    state.boxes = value;
    $("boxes").checked = value;
    paint(true);
    if ($("detail").open) open(state.at);
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
    if ($("detail").open) {
      if (event.key === "ArrowRight" || event.key === "j") open(state.at + 1);
      else if (event.key === "ArrowLeft" || event.key === "k") open(state.at - 1);
      else if (event.key === "b") toggleBoxes(!state.boxes);
      else return;
      event.preventDefault();
    } else if (/INPUT|SELECT/.test(event.target.tagName)) {
      if (event.key === "Escape") event.target.blur();
    } else if (KEYS[event.key]) {
      event.preventDefault();
      KEYS[event.key]();
    }
  });

  grid.addEventListener("click", (event) => {
    const node = event.target.closest(".item");
    if (node) open(Number(node.dataset.place));
  });
  $("close").addEventListener("click", close);
  $("detail").addEventListener("cancel", (event) => {
    event.preventDefault();
    close();
  });
  $("detail").addEventListener("click", (event) => {
    if (event.target === $("detail")) close();
  });
  $("boxes").addEventListener("change", () => toggleBoxes($("boxes").checked));
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  // Escape clears a search field without an `input` event.
  for (const name of ["input", "search"]) {
    $("search").addEventListener(name, () => {
      state.search = $("search").value;
      apply();
    });
  }
  $("reset").addEventListener("click", () => {
    Object.assign(state, { search: "", result: "all", fields: {}, bin: "" });
    $("search").value = "";
    for (const node of $("selects").children) node.value = "";
    apply();
  });
  $("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
      || (document.documentElement.dataset.theme === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  });
  addEventListener("scroll", () => requestAnimationFrame(() => paint(false)), { passive: true });
  addEventListener("resize", () => {
    measure();
    paint(true);
  });

  for (const result of Object.keys(RESULTS)) {
    const count = data.items.filter(RESULTS[result]).length;
    if (result !== "all" && (!count || (result === "flipped" && !data.compared))) continue;
    const button = make("button", "", `${result} ${count.toLocaleString("en")}`);
    button.type = "button";
    button.dataset.result = result;
    button.addEventListener("click", () => choose(result));
    $("result").append(button);
  }
  for (const [name, values] of Object.entries(data.filters)) select(name, values, (value) => { state.fields[name] = value; });
  if (data.boxBins.length) select("boxes", data.boxBins, (value) => { state.bin = value; });
  apply();
  const wanted = /^#item=(.*)$/.exec(location.hash);
  if (wanted) open(data.items.findIndex((item) => item.id === decodeURIComponent(wanted[1])));
})();
