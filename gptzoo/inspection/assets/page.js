"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const view = document.getElementById("view");
const hint = document.getElementById("hint");

// An element with attributes and children; strings become text, never markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// The colours of the page as they are now, light or dark.
function palette() {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => style.getPropertyValue(name).split(",").map(Number);
  return { low: rgb("--low"), high: rgb("--high"), negative: rgb("--negative"), ink: style.getPropertyValue("--ink"),
    quiet: style.getPropertyValue("--quiet"), accent: style.getPropertyValue("--accent") };
}

// From ground to full colour by the square root, so that small weights can be told from none.
function shade(colours, share) {
  const way = Math.sqrt(Math.min(1, Math.abs(share)));
  const end = share < 0 ? colours.negative : colours.high;
  return colours.low.map((low, channel) => Math.round(low + (end[channel] - low) * way));
}

const css = (rgb) => `rgb(${rgb.join(",")})`;

// Black or white, whichever can be read on a colour.
function readable(rgb) {
  const [r, g, b] = rgb.map((value) => (value / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.3 ? "#10131a" : "#ffffff";
}

function whenColoursChange(draw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
