// The demo: asks its server for pictures, and shows progress and pictures as they come.
document.addEventListener("DOMContentLoaded", function () {
  "use strict";
  function byId(name) { return document.getElementById(name); }
  var form = byId("ask"), told = byId("told"), bar = byId("bar"), go = byId("go");

  function element(name, text, parent) {
    var made = document.createElement(name);
    if (text) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }
  function link(text, address, parent) {
    var made = element(address ? "a" : "span", text, parent);
    if (address) made.href = address;
    return made;
  }
  function picture(data, alt, parent) {
    var made = element("img", "", parent);
    made.src = "data:image/png;base64," + data;
    made.alt = alt;
  }
  function say(text, isWrong) {
    told.textContent = text;
    told.className = isWrong ? "wrong" : "";
  }
  function card(found, prompt) {
    var made = element("section", "", byId("samples"));
    made.className = "card";
    picture(found.png, prompt + ", seed " + found.seed, made);
    var line = element("p", "Seed " + found.seed + " · ", made);
    var file = link("save", "data:image/png;base64," + found.png, line);
    file.download = prompt.replace(/[^\w]+/g, "-") + "-" + found.seed + ".png";
    if (!found.near.length) return;
    var list = element("ol", "", made);
    found.near.forEach(function (work) {
      var item = element("li", "", list);
      picture(work.picture, "Training work: " + work.title, item);
      var text = element("span", "", item);
      link(work.title, work.source_url, text);
      text.append(" by " + work.author + ", ");
      link(work.license, work.license_url, text);
      text.append(": " + work.closeness);
    });
  }
  function take(line, asked) {
    var found = JSON.parse(line);
    if (found.waiting) say("Waiting for the model.");
    if (found.step) {
      say("Drawing picture " + found.picture + " of " + found.of + ", step " + found.step + " of " + found.steps + ".");
      bar.max = found.of * found.steps;
      bar.value = (found.picture - 1) * found.steps + found.step;
    }
    if (found.png) card(found, asked.prompt);
    if (found.done) say("“" + asked.prompt + "” at guidance scale " + asked.guidance_scale + ", drawn on this machine.");
    return found.done;
  }
  async function draw(asked) {
    var answer = await fetch("/draw", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked)
    });
    if (!answer.ok) throw new Error(await answer.text());
    var reader = answer.body.getReader(), decoder = new TextDecoder(), rest = "", done = false;
    for (;;) {
      var part = await reader.read();
      if (part.done) break;
      var lines = (rest + decoder.decode(part.value, { stream: true })).split("\n");
      rest = lines.pop();
      lines.forEach(function (line) { done = take(line, asked) || done; });
    }
    if (!done) throw new Error("The drawing was broken off; see the terminal of the demo.");
  }
  form.addEventListener("submit", function (event) {
    event.preventDefault();
    var number = function (name) { return byId(name).value === "" ? null : Number(byId(name).value); };
    byId("samples").replaceChildren();
    go.disabled = true;
    bar.hidden = false;
    bar.removeAttribute("value");
    say("Asking for the drawing.");
    draw({
      prompt: byId("prompt").value, seed: number("seed"), num: number("num"),
      guidance_scale: number("guidance")
    }).catch(function (error) {
      say(error instanceof TypeError ? "The demo does not answer; is it still running?" : error.message, true);
    }).finally(function () {
      go.disabled = false;
      bar.hidden = true;
    });
  });
  document.querySelectorAll(".example").forEach(function (example) {
    example.disabled = false;
    example.addEventListener("click", function () {
      byId("prompt").value = example.textContent;
      form.requestSubmit();
    });
  });
  form.hidden = false;
});
