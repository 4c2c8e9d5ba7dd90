"use strict";

// Create an element with attributes and children. Strings become text nodes, never markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value; // an attribute would need a weaker content security policy
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Return the current colours of the page, which depend on the light or dark scheme.
function palette() {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => style.getPropertyValue(name).split(",").map(Number);
  return { low: rgb("--low"), high: rgb("--high"), negative: rgb("--negative"), ink: style.getPropertyValue("--ink"),
    quiet: style.getPropertyValue("--quiet"), accent: style.getPropertyValue("--accent") };
}

// Interpolate from the background to the full colour by the square root, so that small weights stay visible.
function shade(colours, share) {
  const fraction = Math.sqrt(Math.min(1, Math.abs(share)));
  const end = share < 0 ? colours.negative : colours.high;
  return colours.low.map((low, channel) => Math.round(low + (end[channel] - low) * fraction));
}

const css = (rgb) => `rgb(${rgb.join(",")})`;

// Return near-black or white, whichever has more contrast on a background colour.
function readable(rgb) {
  const [r, g, b] = rgb.map((value) => (value / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.3 ? "#10131a" : "#ffffff";
}

function whenColoursChange(draw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
