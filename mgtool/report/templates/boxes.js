
(() => {
  const names = new Map(data.labels);
  const numbers = new Map(data.labels.map(([number, label]) => [label, number]));
  const state = { search: "", label: "", bin: "", least: 0, sort: "", boxes: true, hidden: new Set(), shown: [] };

  const wanted = (box) => box[4] >= state.least && (state.label === "" || box[5] === names.get(Number(state.label)));

  function rows(pic, labelled, only) {
    if (!state.boxes) return [];
    return pic.boxes.filter((box) => wanted(box) && !(labelled && state.hidden.has(box[5]))).map((box) => ({
      box, className: "found", text: `${box[5]} ${box[4].toFixed(2)}`, stroke: colour(box[5]), faint: only && only !== box,
    }));
  }

  function fill(frame, place, labelled, zoom, only) {
    const pic = picture(place);
    fillFrame(frame, pic, data.items[place].name, rows(pic, labelled, only), { labelled, zoom });
  }

  // A card holds its picture only while it is near the window.
  const visible = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const frame = target.firstChild;
      if (isIntersecting) {
        visible.add(target);
        fill(frame, Number(target.dataset.place), false, 1);
      } else {
        visible.delete(target);
        frame.replaceChildren();
      }
    }
  }, { rootMargin: "400px" });

  const cards = data.items.map((item, place) => {
    const node = make("button", "item");
    node.type = "button";
    node.dataset.place = place;
    const text = make("span", "text");
    text.append(make("span", "question", item.name), make("span", "dim", item.count === 1 ? "1 box" : `${item.count} boxes`));
    node.append(make("span", "frame"), text);
    const entry = make("li");
    entry.append(node);
    $("grid").append(entry);
    watcher.observe(node);
    return node;
  });

  function repaint() {
    for (const node of visible) fill(node.firstChild, Number(node.dataset.place), false, 1);
    dialog.repaint();
  }

  // The labels of an item are all of its boxes'; only a score needs the boxes themselves.
  function fits(item, place) {
    if (!state.search.toLowerCase().split(/\s+/).every((word) => item.name.toLowerCase().includes(word))) return false;
    if (state.bin && item.bin !== state.bin) return false;
    if (state.label !== "" && !item.labels.includes(Number(state.label))) return false;
    return state.label === "" || !state.least || picture(place).boxes.some(wanted);
  }

  const SORTS = {
    most: ["most boxes first", (one, two) => data.items[two].count - data.items[one].count],
    fewest: ["fewest boxes first", (one, two) => data.items[one].count - data.items[two].count],
    name: ["by name", (one, two) => data.items[one].name.localeCompare(data.items[two].name, "en", { numeric: true })],
  };

  function apply() {
    const order = data.items.map((_, place) => place);
    if (SORTS[state.sort]) order.sort(SORTS[state.sort][1]);
    if (state.sorted !== state.sort) $("grid").append(...order.map((place) => cards[place].parentNode));
    state.sorted = state.sort;
    state.shown = order.filter((place) => fits(data.items[place], place));
    const fit = new Set(state.shown);
    cards.forEach((node, place) => {
      node.hidden = !fit.has(place);
      node.parentNode.hidden = node.hidden;
    });
    $("shown").textContent = `${state.shown.length.toLocaleString("en")} of ${data.items.length.toLocaleString("en")}`;
    $("none").hidden = state.shown.length > 0;
    $("grid").hidden = state.shown.length === 0;
    repaint();
  }

  function remember(item) {
    const label = state.label === "" ? "" : names.get(Number(state.label));
    address.write({ search: state.search, label, bin: state.bin, score: state.least || "", sort: state.sort, item: item ? item.name : "" });
  }

  function change(values) {
    Object.assign(state, values);
    apply();
    remember();
  }

  function facts(place) {
    const pic = picture(place);
    const list = make("ol");
    const stage = () => $("stage").firstChild;
    for (const box of pic.boxes.filter(wanted)) {
      const line = make("li");
      line.append(make("span", "", box[5]), make("span", "", box[4].toFixed(2)));
      line.addEventListener("mouseenter", () => fill(stage(), place, true, 1, box));
      line.addEventListener("mouseleave", () => dialog.repaint());
      list.append(line);
    }
    const size = pic.size[0] ? make("p", "hint", `${pic.size[0]} × ${pic.size[1]} pixels`) : "";
    const switches = labelSwitches(pic.boxes.filter(wanted).map((box) => box[5]), state.hidden, () => dialog.repaint());
    $("facts").replaceChildren(
      make("h3", "", data.items[place].name), switches, list, size, ...(pic.file ? [wholeFile(pic.file)] : []));
    $("facts").scrollTop = 0;
  }

  const dialog = viewer({
    count: () => state.shown.length,
    draw: (at, view, zoom) => fill(view, state.shown[at], true, zoom),
    opened: (at) => {
      facts(state.shown[at]);
      remember(data.items[state.shown[at]]);
    },
    closed: (at) => {
      remember();
      const node = cards[state.shown[at]];
      if (node) node.focus();
    },
  });

  function toggleBoxes(value) {
    state.boxes = value;
    $("boxes").checked = value;
    repaint();
  }

  function show(values) {
    $("search").value = values.search;
    $("label").value = values.label;
    $("bin").value = values.bin;
    $("sort").value = values.sort;
    $("score").value = values.least;
    $("least").textContent = String(values.least);
  }

  function reset() {
    const values = { search: "", label: "", bin: "", least: 0, sort: state.sort };
    show(values);
    change(values);
  }

  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    const typing = /INPUT|SELECT/.test(event.target.tagName);
    if ($("detail").open && event.key === "b") toggleBoxes(!state.boxes);
    else if (dialog.pressed(event)) return;
    else if (typing) {
      if (event.key === "Escape") event.target.blur();
    } else if (event.key === "/") {
      $("search").focus();
      event.preventDefault();
    } else if (event.key === "b") toggleBoxes(!state.boxes);
  });

  $("grid").addEventListener("click", (event) => {
    const node = event.target.closest(".item");
    if (node) dialog.open(state.shown.indexOf(Number(node.dataset.place)));
  });
  // Escape clears a search field without an `input` event.
  for (const name of ["input", "search"]) $("search").addEventListener(name, () => change({ search: $("search").value }));
  for (const name of ["label", "bin", "sort"]) $(name).addEventListener("change", () => change({ [name]: $(name).value }));
  $("score").addEventListener("input", () => {
    $("least").textContent = $("score").value;
    change({ least: Number($("score").value) });
  });
  $("boxes").addEventListener("change", () => toggleBoxes($("boxes").checked));
  $("reset").addEventListener("click", reset);

  $("label").append(new Option("label: all", ""), ...data.labels.map(([number, label]) => new Option(label, number)));
  $("bin").append(new Option("boxes: all", ""), ...data.bins.map((bin) => new Option(bin, bin)));
  $("sort").append(new Option("order of the input", ""), ...Object.entries(SORTS).map(([name, [text]]) => new Option(text, name)));

  function restore() {
    const known = address.read();
    const label = numbers.has(known.get("label")) ? String(numbers.get(known.get("label"))) : "";
    const least = Math.min(Math.max(Number(known.get("score")) || 0, 0), 1);
    const values = { search: known.get("search") || "", label, bin: known.get("bin") || "", least, sort: known.get("sort") || "" };
    show(values);
    Object.assign(state, values);
    apply();
    if ([...known].some(([, value]) => value)) $("gallery").scrollIntoView();
    if (known.has("item")) dialog.open(state.shown.findIndex((place) => data.items[place].name === known.get("item")));
  }

  addEventListener("hashchange", restore);
  restore();
})();
