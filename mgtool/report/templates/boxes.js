(() => {
  const names = new Map(data.labels);
  const state = { search: "", label: "", bin: "", least: 0, boxes: true, shown: [], at: -1 };

  const wanted = (box) => box[4] >= state.least && (state.label === "" || box[5] === names.get(Number(state.label)));

  // Best last, so that the surest box lies on top.
  function overlay(pic, scale, labelled, only) {
    const [width, height] = pic.size;
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" });
    for (const box of pic.boxes.filter(wanted).reverse()) {
      const at = { x: box[0], y: box[1], width: Math.max(box[2] - box[0], 0), height: Math.max(box[3] - box[1], 0) };
      const group = shape("g", {}, only && only !== box ? "faint" : "");
      group.append(shape("rect", at, "under"), shape("rect", at, "found"));
      if (labelled) {
        const text = shape("text", { x: Math.max(box[0], 0) + 4 * scale, y: Math.max(box[1], 0) + 14 * scale });
        text.setAttribute("style", `font-size:${12 * scale}px;stroke-width:${3 * scale}px`);
        text.textContent = `${box[5]} ${box[4].toFixed(2)}`;
        group.append(text);
      }
      svg.append(group);
    }
    return svg;
  }

  function fill(frame, pic, labelled, only) {
    frame.replaceChildren();
    if (pic.uri) {
      const image = make("img");
      image.alt = "";
      image.decoding = "sync"; // else it is missing from the first frame
      image.src = pic.uri;
      frame.append(image);
    } else if (!pic.size[0]) {
      frame.append(make("span", "", "no picture"));
    }
    if (state.boxes && pic.size[0]) {
      const room = frame.getBoundingClientRect();
      frame.append(overlay(pic, room.width ? 1 / Math.min(room.width / pic.size[0], room.height / pic.size[1]) : 1, labelled, only));
    }
  }

  // A card holds its picture only while it is near the window.
  const visible = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const frame = target.firstChild;
      if (isIntersecting) {
        visible.add(target);
        fill(frame, picture(Number(target.dataset.place)), false);
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
    node.setAttribute("role", "listitem");
    const text = make("div", "text");
    text.append(make("div", "question", item.name), make("div", "dim", item.count === 1 ? "1 box" : `${item.count} boxes`));
    node.append(make("div", "frame"), text);
    $("grid").append(node);
    watcher.observe(node);
    return node;
  });

  function repaint() {
    for (const node of visible) fill(node.firstChild, picture(Number(node.dataset.place)), false);
    if ($("detail").open) open(state.at);
  }

  // The labels of an item are all of its boxes'; only a score needs the boxes themselves.
  function fits(item, place) {
    if (!state.search.toLowerCase().split(/\s+/).every((word) => item.name.toLowerCase().includes(word))) return false;
    if (state.bin && item.bin !== state.bin) return false;
    if (state.label !== "" && !item.labels.includes(Number(state.label))) return false;
    return state.label === "" || !state.least || picture(place).boxes.some(wanted);
  }

  function apply() {
    state.shown = [];
    data.items.forEach((item, place) => {
      const fit = fits(item, place);
      cards[place].hidden = !fit;
      if (fit) state.shown.push(place);
    });
    $("shown").textContent = `${state.shown.length.toLocaleString("en")} of ${data.items.length.toLocaleString("en")}`;
    $("none").hidden = state.shown.length > 0;
    repaint();
  }

  function open(at) {
    if (at < 0 || at >= state.shown.length) return;
    state.at = at;
    if (!$("detail").open) $("detail").showModal();
    const pic = picture(state.shown[at]);
    const list = make("ol");
    for (const box of pic.boxes.filter(wanted)) {
      const line = make("li");
      line.append(make("span", "", box[5]), make("span", "", box[4].toFixed(2)));
      line.addEventListener("mouseenter", () => fill($("stage"), pic, true, box));
      line.addEventListener("mouseleave", () => fill($("stage"), pic, true));
      list.append(line);
    }
    $("facts").replaceChildren(make("h3", "", data.items[state.shown[at]].name), list);
    fill($("stage"), pic, true);
  }

  function close() {
    $("detail").close();
    const node = cards[state.shown[state.at]];
    if (node) node.focus();
  }

  function toggleBoxes(value) {
    state.boxes = value;
    $("boxes").checked = value;
    repaint();
  }

  function reset() {
    Object.assign(state, { search: "", label: "", bin: "", least: 0 });
    for (const name of ["search", "label", "bin"]) $(name).value = "";
    $("score").value = 0;
    $("least").textContent = "0";
    apply();
  }

  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    const typing = /INPUT|SELECT/.test(event.target.tagName);
    if ($("detail").open) {
      if (event.key === "ArrowRight") open(state.at + 1);
      else if (event.key === "ArrowLeft") open(state.at - 1);
      else if (event.key === "b") toggleBoxes(!state.boxes);
      else return;
      event.preventDefault();
    } else if (typing) {
      if (event.key === "Escape") event.target.blur();
    } else if (event.key === "/") {
      $("search").focus();
      event.preventDefault();
    } else if (event.key === "b") toggleBoxes(!state.boxes);
  });

  $("grid").addEventListener("click", (event) => {
    const node = event.target.closest(".item");
    if (node) open(state.shown.indexOf(Number(node.dataset.place)));
  });
  $("close").addEventListener("click", close);
  $("detail").addEventListener("cancel", (event) => {
    event.preventDefault();
    close();
  });
  $("detail").addEventListener("click", (event) => {
    if (event.target === $("detail")) close();
  });
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  // Escape clears a search field without an `input` event.
  for (const name of ["input", "search"]) {
    $("search").addEventListener(name, () => {
      state.search = $("search").value;
      apply();
    });
  }
  for (const name of ["label", "bin"]) {
    $(name).addEventListener("change", () => {
      state[name] = $(name).value;
      apply();
    });
  }
  $("score").addEventListener("input", () => {
    state.least = Number($("score").value);
    $("least").textContent = $("score").value;
    apply();
  });
  $("boxes").addEventListener("change", () => toggleBoxes($("boxes").checked));
  $("reset").addEventListener("click", reset);
  $("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
      || (document.documentElement.dataset.theme === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  });

  $("label").append(new Option("label: all", ""), ...data.labels.map(([number, label]) => new Option(label, number)));
  $("bin").append(new Option("boxes: all", ""), ...data.bins.map((bin) => new Option(bin, bin)));
  apply();
})();
