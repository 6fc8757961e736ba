// The explorer: shows the chosen sample of each chosen variant, and what it resembles.
document.addEventListener("DOMContentLoaded", function () {
  "use strict";
  function byId(name) { return document.getElementById(name); }
  var content = JSON.parse(byId("content").textContent);
  var chosen = { set: byId("set"), prompt: byId("prompt"), sample: byId("sample"), guidance: byId("guidance") };
  var samples = byId("samples");

  function element(name, text, parent) {
    var made = document.createElement(name);
    if (text) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }
  function options(select, pairs, wanted) {
    select.replaceChildren.apply(select, pairs.map(function (pair) {
      return new Option(pair[1], pair[0]);
    }));
    if (pairs.some(function (pair) { return String(pair[0]) === wanted; })) select.value = wanted;
    select.disabled = pairs.length < 2;
  }
  function picture(data, alt, parent) {
    var made = element("img", "", parent);
    made.src = "data:image/webp;base64," + data;
    made.alt = alt;
  }
  function link(text, address, parent) {
    var made = element(address ? "a" : "span", text, parent);
    if (address) made.href = address;
  }
  function credit(work, parent) {
    link(work[0] || "untitled", work[4], parent);
    parent.append(" by " + (work[1] || "an unnamed author") + ", ");
    link(work[2], work[3], parent);
  }
  // Two decimals, or as many as it takes to tell a similarity from the threshold.
  function digits(score, threshold) {
    if (threshold === null) return 2;
    return score.toFixed(2) === threshold.toFixed(2) ? 4 : 2;
  }
  function closeness(score, threshold) {
    var num = digits(score, threshold), told = "similarity " + score.toFixed(num);
    if (threshold === null) return told;
    var side = score > threshold ? ", above" : ", below";
    return told + side + " the threshold of a near copy (" + threshold.toFixed(num) + ")";
  }

  function currentSet() { return content.sets[Number(chosen.set.value)]; }
  function places() {  // of the samples of the chosen prompt, which may be asked twice
    var prompt = chosen.prompt.value, all = currentSet().prompts;
    return all.map(function (_, place) { return place; })
      .filter(function (place) { return all[place] === prompt; });
  }
  function variants() {
    return content.rows.filter(function (_, place) { return boxes[place].checked; });
  }

  function fillPrompts(wanted) {
    var different = Array.from(new Set(currentSet().prompts));
    options(chosen.prompt, different.map(function (one) { return [one, one]; }), wanted);
  }
  function fillSamples(wanted) {
    options(chosen.sample, places().map(function (place) {
      return [place, "number " + place];
    }), wanted);
  }
  function fillGuidance(wanted) {
    var name = currentSet().name, scales = new Set(), shared = [];
    variants().forEach(function (row) {
      Object.keys(row.drawn[name] || {}).forEach(function (scale) { scales.add(scale); });
    });
    scales = Array.from(scales).sort(function (a, b) { return a - b; });
    shared = scales.filter(function (scale) {
      return variants().every(function (row) { return (row.drawn[name] || {})[scale]; });
    });
    var pairs = scales.map(function (scale) {
      return [scale, scale === "1" ? "1 (no guidance)" : scale];
    });
    // Where each variant was judged at its own scale, these stand side by side first.
    if (!shared.length) pairs.unshift(["own", "each variant's own"]);
    options(chosen.guidance, pairs, wanted);
    if (wanted === null && shared.length > 1) {
      var first = variants()[0];
      chosen.guidance.value = shared.indexOf(first.guidance) < 0 ? shared[0] : first.guidance;
    }
  }

  function drawnOf(row) {
    var by = row.drawn[currentSet().name] || {}, scale = chosen.guidance.value;
    if (scale === "own") scale = by[row.guidance] ? row.guidance : Object.keys(by)[0];
    return by[scale] ? { scale: scale, sample: by[scale][Number(chosen.sample.value)] } : null;
  }
  function namedCard(work, prompt) {
    var card = element("section", "", samples);
    card.className = "card";
    element("h2", "The work that the prompt names", card);
    picture(work[5], "The work that the prompt names: " + (work[0] || prompt), card);
    credit(work, element("p", "", card));
  }
  function card(row, prompt) {
    var made = element("section", "", samples), found = drawnOf(row);
    made.className = "card";
    element("h2", row.name, made);
    if (!found) {
      element("p", "Nothing was drawn of this prompt at this guidance scale.", made);
      return;
    }
    picture(found.sample[0], "Sample of " + row.name + " for: " + prompt, made);
    element("p", "Guidance scale " + found.scale, made);
    if (!row.searched) {
      element("p", "Its training works are not known here, or too many to be searched.", made);
      return;
    }
    var near = found.sample[1], best = near[0][1];
    var says = element("p", "", made);
    if (row.threshold === null) {
      says.textContent = "Near copies of this run are found by another comparison than this page's.";
    } else {
      var is = best > row.threshold;
      says.textContent = is ? "A near copy, by this run's threshold" : "No near copy, by this run's threshold";
      if (is) says.className = "near-copy";
    }
    var list = element("ol", "", made);
    near.forEach(function (one) {
      var work = content.works[one[0]], item = element("li", "", list);
      picture(work[5], "Training work: " + (work[0] || "untitled"), item);
      var text = element("span", "resembles ", item);
      credit(work, text);
      text.append("; " + closeness(one[1], row.threshold));
    });
  }

  function show() {
    var set = currentSet(), place = Number(chosen.sample.value), prompt = chosen.prompt.value;
    samples.replaceChildren();
    if (set.named[place] >= 0) namedCard(content.works[set.named[place]], prompt);
    variants().forEach(function (row) { card(row, prompt); });
    byId("told").textContent = variants().length
      ? "“" + prompt + "”: sample number " + place + " of the set " + set.name +
        ", whose noise depends on the seed " + content.seed + " and this number alone."
      : "No variant is chosen.";
    var full = variants().length >= content.most;
    boxes.forEach(function (box) { box.disabled = full && !box.checked; });
  }
  function step(by) {
    var num = chosen.prompt.options.length;
    chosen.prompt.selectedIndex = (chosen.prompt.selectedIndex + by + num) % num;
    fillSamples(); show();
  }

  var asked = decodeURIComponent(location.hash.slice(1)), num = 0;
  var boxes = content.rows.map(function (row) {
    var label = element("label", "", byId("variants")), box = element("input", "", label);
    box.type = "checkbox";
    box.checked = row.name === asked;
    num += box.checked ? 1 : 0;
    box.addEventListener("change", function () { fillGuidance(chosen.guidance.value); show(); });
    label.append(row.name);
    return box;
  });
  boxes.forEach(function (box) {
    if (!box.checked && num < content.most) { box.checked = true; num += 1; }
  });
  options(chosen.set, content.sets.map(function (set, place) {
    return [place, set.name + ": " + set.words];
  }));
  chosen.set.addEventListener("change", function () {
    fillPrompts(); fillSamples(); fillGuidance(null); show();
  });
  chosen.prompt.addEventListener("change", function () { fillSamples(); show(); });
  chosen.sample.addEventListener("change", show);
  chosen.guidance.addEventListener("change", show);
  byId("back").addEventListener("click", function () { step(-1); });
  byId("on").addEventListener("click", function () { step(1); });
  byId("choice").addEventListener("submit", function (event) { event.preventDefault(); });
  byId("choice").hidden = false;
  fillPrompts(); fillSamples(); fillGuidance(null); show();
});
