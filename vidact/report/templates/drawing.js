"use strict";
// From packed bytes to pixels. The colours come from the page: Python chose them, for files and reports alike.

const constants = readJson(document.getElementById("constants"));

function readJson(element) {
  return JSON.parse(element.textContent);
}

function parseColour(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

/** Blend the list of colours into a table of shades: [red, green, blue] each, zero in the middle. */
function shadeTable() {
  const stops = constants.relevanceColours.map(parseColour);
  return Array.from({ length: constants.numShades }, (_, shade) => {
    const place = (shade / (constants.numShades - 1)) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    return stops[low].map((value, colour) => Math.round(value + (place - low) * (stops[low + 1][colour] - value)));
  });
}

const shades = shadeTable();

async function inflate(base64) {
  const packed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function loadPicture(address) {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  return picture;
}

/** Undo the companding: from a byte to R / max|R|, in [-1, 1]. */
function shareOf(byte) {
  const root = (byte - constants.zeroByte) / constants.fullScale;
  return Math.sign(root) * root * root;
}

function shadeNumbers(explanation) {
  const top = constants.numShades;
  return Array.from({ length: 256 }, (_, byte) => {
    const share = (shareOf(byte) * explanation.largest) / explanation.limit;
    return Math.min(top - 1, Math.max(0, Math.floor(((share + 1) / 2) * top)));
  });
}

/** Draw a frame of a sprite as large as the canvas is. */
function paintFrame(canvas, picture, sprite, frame) {
  const context = canvas.getContext("2d");
  const left = (frame % sprite.columns) * sprite.width;
  const top = Math.floor(frame / sprite.columns) * sprite.height;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, sprite.width, sprite.height, 0, 0, canvas.width, canvas.height);
}

/** Draw a frame's relevance, a pixel for each voxel. */
function paintHeatmap(canvas, explanation, frame) {
  const { width, height, bytes, shadeOfByte } = explanation;
  resize(canvas, width, height);
  const image = new ImageData(width, height);
  const start = frame * width * height;
  for (let voxel = 0; voxel < width * height; voxel += 1) {
    image.data.set(shades[shadeOfByte[bytes[start + voxel]]], 4 * voxel);
    image.data[4 * voxel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Fill a frame's hotspots translucently, and draw a line around each region. */
function paintHotspots(canvas, explanation, frame) {
  const { width, height, bytes, hotspot_byte: least } = explanation;
  const context = canvas.getContext("2d");
  const start = frame * width * height;
  const isSpot = (x, y) =>
    x >= 0 && y >= 0 && x < width && y < height && bytes[start + y * width + x] >= least;
  context.imageSmoothingEnabled = false;
  context.drawImage(spotFill(width, height, isSpot), 0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = true;
  context.strokeStyle = constants.hotspotColour;
  context.lineWidth = 2 * Math.max(1, Math.round(canvas.height / 320)); // even: sharp along the edges of voxels
  context.stroke(spotOutline(width, height, isSpot, [canvas.width / width, canvas.height / height]));
}

function spotFill(width, height, isSpot) {
  const image = new ImageData(width, height);
  const colour = [...parseColour(constants.hotspotColour), Math.round(255 * constants.hotspotOpacity)];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) if (isSpot(x, y)) image.data.set(colour, 4 * (y * width + x));
  }
  const fill = document.createElement("canvas");
  resize(fill, width, height);
  fill.getContext("2d").putImageData(image, 0, 0);
  return fill;
}

function spotOutline(width, height, isSpot, [wide, high]) {
  const path = new Path2D();
  for (let y = 0; y <= height; y += 1) {
    for (let x = 0; x <= width; x += 1) {
      if (isSpot(x, y) !== isSpot(x, y - 1)) {
        path.moveTo(x * wide, y * high);
        path.lineTo((x + 1) * wide, y * high);
      }
      if (isSpot(x, y) !== isSpot(x - 1, y)) {
        path.moveTo(x * wide, y * high);
        path.lineTo(x * wide, (y + 1) * high);
      }
    }
  }
  return path;
}

function paintShades(canvas) {
  resize(canvas, shades.length, 1);
  const image = new ImageData(shades.length, 1);
  shades.forEach((shade, place) => image.data.set([...shade, 255], 4 * place));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Setting a canvas's size empties it, so only where it changes. */
function resize(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
}

function clear(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}
