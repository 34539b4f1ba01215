// Learning curves in place of their picture: choose a score and variants, read values by pointer or arrow keys.

const SVG = new DOMParser().parseFromString("<svg></svg>", "text/html").querySelector("svg").namespaceURI;

// Where each of these keys leads from a point: along its line, or to what is drawn above or below it.
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function drawn(parent, name, attributes, color) {
  const element = document.createElementNS(SVG, name);
  for (const [key, each] of Object.entries(attributes)) element.setAttribute(key, each);
  if (color) element.style.setProperty("--color", color);
  parent.append(element);
  return element;
}

function made(parent, name, className, ...content) {
  const element = document.createElement(name);
  element.className = className;
  element.append(...content);
  parent.append(element);
  return element;
}

// About so many round numbers between two.
function roundNumbers([low, high], num) {
  const rough = (high - low) / num;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(9)));
}

function range(numbers, space) {
  const found = numbers.filter((each) => each !== null);
  const low = Math.min(...found);
  const high = Math.max(...found);
  const more = (high - low) * space || 0.5;
  return found.length ? [low - more, high + more] : [0, 1];
}

function isInside(each, [low, high]) {
  return each !== null && each > low && each < high;
}

function ends(curve) {
  const bands = [-1, 1].flatMap((sign) => curve.mean.map((mean, i) => (mean === null ? null : mean + sign * curve.half[i])));
  return [...bands, ...curve.seeds.flat(), ...curve.lost.flatMap(([, y]) => y)];
}

function reading(score, line, curve, i) {
  const [unit, digits] = score.label.endsWith("%") ? [" %", 1] : ["", 3];
  const half = curve.half[i] === null ? "—" : curve.half[i].toFixed(digits);
  const value = curve.mean[i].toFixed(digits) + (line.num > 1 ? ` ± ${half}` : "") + unit;
  return `epoch ${curve.x[i]}: ${value} (${line.num} ${line.num === 1 ? "seed" : "seeds"})`;
}

// A panel: `lines` in their colours before the `others`; `at` remembers what is read.
function drawPanel(panel, title, lines, others, { score, index, x, y, look }) {
  made(panel, "p", "caption", title);
  const frame = made(panel, "div", "frame");
  const width = frame.clientWidth;
  const height = Math.max(190, Math.min(340, 0.6 * width));
  const [left, right, top, bottom] = [44, width - 10, 8, height - 36];
  const toX = (each) => left + ((each - x[0]) / (x[1] - x[0])) * (right - left);
  const toY = (each) => bottom - ((each - y[0]) / (y[1] - y[0])) * (bottom - top);
  const svg = drawn(frame, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "application" });
  svg.setAttribute("aria-label", `${score.label} over epochs, ${title}: arrow keys read values`);
  const path = (xs, ys) => xs.map((each, i) => (ys[i] === null ? "" : `${i && ys[i - 1] !== null ? "L" : "M"}${toX(each)} ${toY(ys[i])}`)).join("");

  for (const tick of roundNumbers(y, 5)) {
    drawn(svg, "path", { class: "grid", d: `M${left} ${toY(tick)}H${right}` });
    drawn(svg, "text", { x: left - 7, y: toY(tick) + 4, "text-anchor": "end" }).textContent = tick;
  }
  for (const tick of roundNumbers(x, Math.min(8, width / 60)).filter(Number.isInteger)) {
    drawn(svg, "text", { x: toX(tick), y: bottom + 16, "text-anchor": "middle" }).textContent = tick;
  }
  drawn(svg, "text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }).textContent = "epoch";
  drawn(svg, "path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` });
  if (isInside(score.chance, y)) {
    drawn(svg, "path", { class: "chance", d: `M${left} ${toY(score.chance)}H${right}` });
  }
  for (const { curves } of others) drawn(svg, "path", { class: "other", d: path(curves[index].x, curves[index].mean) });
  for (const line of lines) {
    const { x: xs, mean, half, seeds, lost } = line.curves[index];
    const [color, dashes] = line[look];
    const inside = xs.map((_, i) => i).filter((i) => half[i] !== null);
    const edge = (sign) => inside.map((i) => `${toX(xs[i])},${toY(mean[i] + sign * half[i])}`);
    drawn(svg, "polygon", { class: "band", points: [...edge(1), ...edge(-1).reverse()].join(" ") }, color);
    for (const each of seeds) drawn(svg, "path", { class: "seed", d: path(xs, each) }, color);
    for (const [lostX, lostY] of lost) drawn(svg, "path", { class: "seed lost", d: path(lostX, lostY) }, color);
    drawn(svg, "path", { class: "line", d: path(xs, mean), "stroke-dasharray": dashes }, color);
  }

  const points = lines.flatMap((line) => {
    const curve = line.curves[index];
    return curve.x.map((each, i) => ({ line, curve, i, x: toX(each), y: toY(curve.mean[i]) })).filter(({ i }) => curve.mean[i] !== null);
  });
  if (!points.length) made(frame, "p", "nothing", "Nothing is chosen here.");
  const mark = drawn(svg, "circle", { r: 5, class: "mark", visibility: "hidden" });
  const said = made(frame, "div", "reading");
  said.setAttribute("role", "status");
  said.hidden = true;
  let at = points[0];
  const hide = () => {
    said.hidden = true;
    mark.setAttribute("visibility", "hidden");
  };
  const show = (point) => {
    if (!point) return;
    at = point;
    for (const [name, each] of [["cx", at.x], ["cy", at.y], ["visibility", "visible"]]) mark.setAttribute(name, each);
    mark.style.setProperty("--color", at.line[look][0]);
    const name = document.createElement("strong");
    name.textContent = at.line.variant;
    said.replaceChildren(name, reading(score, at.line, at.curve, at.i));
    said.hidden = false;
    said.style.left = `${Math.max(0, Math.min(at.x - said.offsetWidth / 2, width - said.offsetWidth))}px`;
    said.style.top = `${at.y - said.offsetHeight - 12 < 0 ? at.y + 12 : at.y - said.offsetHeight - 12}px`;
  };
  const byPointer = (event) => {
    const box = svg.getBoundingClientRect();
    const far = (point) => Math.hypot(point.x - event.clientX + box.left, point.y - event.clientY + box.top);
    show(points.length ? points.reduce((best, each) => (far(each) < far(best) ? each : best)) : undefined);
  };
  svg.addEventListener("pointermove", byPointer);
  svg.addEventListener("pointerdown", byPointer);
  svg.addEventListener("pointerleave", () => svg.matches(":focus-visible") || hide());
  svg.addEventListener("focus", () => svg.matches(":focus-visible") && show(at));
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    const [along, up] = STEPS[event.key];
    const way = points.filter((each) => (up ? each.curve.x[each.i] === at.curve.x[at.i] : each.line === at.line));
    if (up) way.sort((a, b) => b.y - a.y);
    show(way[way.indexOf(at) + along + up] ?? at);
  });
}

function makeCurves(figure) {
  const { scores, lines, chance, most, note } = JSON.parse(figure.dataset.curves);
  const still = figure.querySelector(".scroll");
  const variants = [...new Set(lines.map(({ variant }) => variant))];
  const poses = [...new Set(lines.map(({ pose }) => pose))];
  const curves = document.createElement("div");
  curves.className = "curves";
  still.before(curves);
  still.querySelector("img").loading = "eager"; // for paper

  const tools = made(curves, "div", "tools");
  const select = document.createElement("select");
  select.append(...scores.map(({ label }, i) => new Option(label, i)));
  tools.append(field("Show", select));
  const together = document.createElement("input");
  together.type = "checkbox";
  together.checked = variants.length <= most;
  if (new Set(lines.map(({ model }) => model)).size > 1) made(tools, "label", "check", together, "all models in one panel");
  const choices = made(curves, "fieldset", "choices");
  made(choices, "legend", "", "Variants");
  const boxes = new Map(variants.map((variant) => {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    const label = made(choices, "label", "check", box);
    const swatch = drawn(label, "svg", { width: 30, height: 10, "aria-hidden": true });
    label.append(variant);
    return [variant, { box, line: drawn(swatch, "path", { class: "line", d: "M0 5H30" }) }];
  }));
  for (const [text, checked] of [["all", true], ["none", false]]) {
    const button = made(choices, "button", "", text);
    button.type = "button";
    button.addEventListener("click", () => {
      boxes.forEach(({ box }) => { box.checked = checked; });
      draw();
    });
  }
  const panels = made(curves, "div", "panels");
  const legend = made(curves, "p", "note", "Point at a line for its values; in a panel, arrow keys do the same.");
  if (note) legend.append(` Here are ${note}.`);
  const chanceWords = document.createTextNode("");
  legend.append(chanceWords);

  function draw() {
    const index = Number(select.value);
    const score = scores[index];
    const look = together.checked ? "together" : "apart";
    for (const { variant, [look]: [color, dashes] } of lines) {
      const { line } = boxes.get(variant);
      line.style.setProperty("--color", color);
      line.setAttribute("stroke-dasharray", dashes);
    }
    const chosen = lines.filter(({ variant }) => boxes.get(variant).box.checked);
    const about = { score, index, look };
    about.x = range(lines.flatMap(({ curves: all }) => all[index].x), 0.03);
    about.y = range((chosen.length ? chosen : lines).flatMap(({ curves: all }) => ends(all[index])), 0.05);
    chanceWords.data = isInside(score.chance, about.y) ? ` Dotted: ${chance}, ${score.chance.toFixed(1)} %.` : "";
    const wanted = poses.flatMap((pose) => {
      const models = together.checked ? [""] : new Set(lines.filter((line) => line.pose === pose).map(({ model }) => model));
      return [...models].map((model) => [pose, model]);
    });
    panels.replaceChildren();
    const places = wanted.map(() => made(panels, "div", "panel")); // all of them first: that makes their widths
    wanted.forEach(([pose, model], i) => {
      const own = chosen.filter((line) => line.pose === pose && (together.checked || line.model === model));
      const others = chosen.filter((line) => line.pose === pose && !own.includes(line));
      const title = [model, poses.length > 1 ? `pose ${pose}` : ""].filter(Boolean).join(", ") || score.label;
      drawPanel(places[i], title, own, others, about);
    });
  }

  for (const control of [select, together, ...[...boxes.values()].map(({ box }) => box)]) {
    control.addEventListener("change", draw);
  }
  let width = 0;
  const fit = () => {
    if (!panels.clientWidth || panels.clientWidth === width) return; // folded, or only its height has changed
    width = panels.clientWidth;
    draw();
  };
  fit();
  new ResizeObserver(fit).observe(panels);
}

document.querySelectorAll("figure[data-curves]").forEach(makeCurves);
