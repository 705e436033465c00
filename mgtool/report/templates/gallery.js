"use strict";
// By hand: a page is one file that loads nothing, so that a gallery's library would stand whole in each of them.
// What both pages share: elements, and pictures that are decoded block by block when they are looked at.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

function shape(tag, attributes, className) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (className) node.setAttribute("class", className);
  return node;
}

const picture = (() => {
  const KEPT = 24;
  const blocks = [...document.querySelectorAll("script.pictures")];
  const decoded = new Map();
  return (place) => {
    if (place < 0) return null;
    const block = Math.floor(place / data.perBlock);
    if (!decoded.has(block)) {
      if (decoded.size > KEPT) decoded.delete(decoded.keys().next().value);
      decoded.set(block, JSON.parse(blocks[block].textContent));
    }
    return decoded.get(block)[place % data.perBlock];
  };
})();

