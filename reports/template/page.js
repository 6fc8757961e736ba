// Theme, marked contents, unfolded code. A page reads well without any of it.
(function () {
  "use strict";
  var themes = ["auto", "light", "dark"];
  var root = document.documentElement;
  function remembered() {
    try { return localStorage.getItem("theme"); } catch (e) { return null; }
  }
  function wear(theme) {
    if (theme === "auto") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", theme);
    try { localStorage.setItem("theme", theme); } catch (e) { /* a private window */ }
  }
  var asked = (/[?&]theme=(light|dark)\b/.exec(location.search) || [])[1];
  var theme = asked || remembered();
  if (themes.indexOf(theme) < 0) theme = "auto";
  if (theme !== "auto") root.setAttribute("data-theme", theme);

  document.addEventListener("DOMContentLoaded", function () {
    var button = document.querySelector("button.theme");
    var word = button.querySelector(".word");
    button.hidden = false;
    word.textContent = theme;
    button.addEventListener("click", function () {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      word.textContent = theme;
      wear(theme);
    });

    var folds = Array.from(document.querySelectorAll("details.code"));
    var unfold = document.querySelector("button.unfold");
    if (unfold && folds.length) {
      unfold.hidden = false;
      unfold.addEventListener("click", function () {
        var open = unfold.getAttribute("aria-pressed") !== "true";
        folds.forEach(function (fold) { fold.open = open; });
        unfold.setAttribute("aria-pressed", String(open));
        unfold.textContent = open ? "Hide folded code" : "Show all code";
      });
    }
    // What scrolls can be scrolled by keyboard, and fades where it is cut.
    var scrolling = ".cc-table, .code pre, .sheet, .formula, .cc-figure.plot";
    var boxes = Array.from(document.querySelectorAll(scrolling));
    function fit(box, number) {
      var rest = box.scrollWidth - box.clientWidth;
      var isCut = rest - box.scrollLeft > 2 && box.matches(".cc-table, .plot");
      box.classList.toggle("cut", isCut);
      if (rest <= 2) { box.removeAttribute("tabindex"); return; }
      box.tabIndex = 0;
      if (box.matches("figure")) return; // which has a role and a caption of its own
      if (!box.getAttribute("role")) box.setAttribute("role", "region");
      if (!box.getAttribute("aria-label")) {
        var caption = box.querySelector("caption");
        var label = caption ? caption.textContent : "Scrolls sideways";
        box.setAttribute("aria-label", label + ", " + (number + 1));
      }
    }
    function fitAll() { boxes.forEach(fit); }
    boxes.forEach(function (box, number) {
      box.addEventListener("scroll", function () { fit(box, number); }, { passive: true });
    });
    document.addEventListener("toggle", fitAll, true);
    window.addEventListener("resize", fitAll);
    fitAll();

    // A link to a claim opens the fold that it is in.
    function openTarget() {
      var target = location.hash && document.getElementById(location.hash.slice(1));
      var fold = target && target.closest("details");
      if (fold) { fold.open = true; target.scrollIntoView(); }
    }
    window.addEventListener("hashchange", openTarget);
    openTarget();

    window.addEventListener("beforeprint", function () {
      document.querySelectorAll("details").forEach(function (fold) { fold.open = true; });
    });

    var links = Array.from(document.querySelectorAll("nav.side a"));
    var heads = links.map(function (link) {
      return document.getElementById(link.getAttribute("href").slice(1));
    });
    function mark() {
      var current = 0;
      heads.forEach(function (head, i) {
        if (head && head.getBoundingClientRect().top < 140) current = i;
      });
      links.forEach(function (link, i) {
        if (i === current) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      });
    }
    if (links.length) {
      document.addEventListener("scroll", mark, { passive: true });
      mark();
    }
  });
})();
