// Replays poses of simple shapes in WebGL 2, without any library. `#data` holds the scene.
"use strict";
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const canvas = $("canvas");
const gl = canvas.getContext("webgl2", { antialias: true });
if (!gl) {
  $("return").textContent = "This page needs WebGL 2, which this browser does not offer.";
  throw new Error("no WebGL 2");
}
for (const episode of data.episodes) {
  const bytes = Uint8Array.from(atob(episode.poses), (c) => c.charCodeAt(0));
  episode.poses = new Float32Array(bytes.buffer); // frames × geoms × (position, quaternion wxyz)
  episode.frames = episode.returns.length;
}

// ---- vectors and matrices (column major)
const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) =>
  [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => { const n = Math.hypot(...a) || 1; return a.map((x) => x / n); };
const along = (a, b, s) => a.map((x, i) => x + s * b[i]);

function multiply(a, b) {
  const out = new Float32Array(16);
  for (let c = 0; c < 4; c++)
    for (let r = 0; r < 4; r++)
      for (let k = 0; k < 4; k++) out[4 * c + r] += a[4 * k + r] * b[4 * c + k];
  return out;
}
function lookAt(eye, target, up) {
  const z = unit(sub(eye, target)), x = unit(cross(up, z)), y = cross(z, x);
  return new Float32Array([x[0], y[0], z[0], 0, x[1], y[1], z[1], 0, x[2], y[2], z[2], 0,
    -dot(x, eye), -dot(y, eye), -dot(z, eye), 1]);
}
function perspective(angle, aspect, near, far) {
  const f = 1 / Math.tan(angle / 2), d = near - far;
  return new Float32Array(
    [f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / d, -1, 0, 0, 2 * far * near / d, 0]);
}
function box(half, depth) { // an orthographic box around the origin, `depth` in front
  return new Float32Array(
    [1 / half, 0, 0, 0, 0, 1 / half, 0, 0, 0, 0, -2 / depth, 0, 0, 0, -1, 1]);
}
function pose([x, y, z, w, i, j, k]) {
  return new Float32Array([
    1 - 2 * (j * j + k * k), 2 * (i * j + k * w), 2 * (i * k - j * w), 0,
    2 * (i * j - k * w), 1 - 2 * (i * i + k * k), 2 * (j * k + i * w), 0,
    2 * (i * k + j * w), 2 * (j * k - i * w), 1 - 2 * (i * i + j * j), 0, x, y, z, 1]);
}

// ---- shapes: interleaved positions and normals, and triangles
function lathe(profile, scale = [1, 1, 1], segments = 40) { // profile: radius, height, normal
  const vertices = [], triangles = [];
  for (let s = 0; s <= segments; s++) {
    const c = Math.cos(2 * Math.PI * s / segments), n = Math.sin(2 * Math.PI * s / segments);
    for (const [r, z, nr, nz] of profile) {
      const normal = unit([c * nr / scale[0], n * nr / scale[1], nz / scale[2]]);
      vertices.push(c * r * scale[0], n * r * scale[1], z * scale[2], ...normal);
    }
  }
  const rows = profile.length;
  for (let s = 0; s < segments; s++)
    for (let p = 0; p + 1 < rows; p++) {
      const a = s * rows + p, b = a + rows;
      triangles.push(a, a + 1, b, b, a + 1, b + 1);
    }
  return { vertices, triangles };
}
function rounded(radius, half) { // half circles around ±half: a sphere, or a capsule
  const profile = [], steps = 24;
  for (let k = 0; k <= steps; k++) {
    const angle = Math.PI * k / steps, r = Math.sin(angle), z = Math.cos(angle);
    const side = 2 * k <= steps ? half : -half;
    profile.push([radius * r, radius * z + side, r, z]);
    if (2 * k === steps) profile.push([radius * r, radius * z - half, r, z]);
  }
  return profile;
}
function solid([x, y, z]) {
  const vertices = [], triangles = [];
  for (let axis = 0; axis < 3; axis++)
    for (const side of [-1, 1]) {
      const start = vertices.length / 6;
      for (const [u, v] of [[-1, -1], [1, -1], [1, 1], [-1, 1]]) {
        const point = [0, 0, 0], normal = [0, 0, 0];
        point[axis] = normal[axis] = side;
        point[(axis + 1) % 3] = u;
        point[(axis + 2) % 3] = v;
        vertices.push(point[0] * x, point[1] * y, point[2] * z, ...normal);
      }
      triangles.push(start, start + 1, start + 2, start, start + 2, start + 3);
    }
  return { vertices, triangles };
}
function faceted(points, faces) {
  const vertices = [];
  for (const face of faces) {
    const [a, b, c] = face.map((i) => points[i]), normal = unit(cross(sub(b, a), sub(c, a)));
    for (const point of [a, b, c]) vertices.push(...point, ...normal);
  }
  return { vertices, triangles: vertices.length ? [...Array(vertices.length / 6).keys()] : [] };
}
function shape({ type, size, points, faces }) {
  const [a, b] = size, edge = [[0, b, 0, 1], [a, b, 0, 1], [a, b, 1, 0]];
  switch (type) {
    case "sphere": return lathe(rounded(a, 0));
    case "capsule": return lathe(rounded(a, b));
    case "cylinder":
      return lathe([...edge, ...edge.map(([r, z, nr, nz]) => [r, -z, nr, -nz]).reverse()]);
    case "ellipsoid": return lathe(rounded(1, 0), size);
    case "box": return solid(size);
    case "mesh": return faceted(points, faces);
    default: { // plane; size 0 means without end
      const x = a || 40 * data.span, y = b || 40 * data.span;
      return { vertices: [[-x, -y], [x, -y], [x, y], [-x, y]].flatMap((p) => [...p, 0, 0, 0, 1]),
        triangles: [0, 1, 2, 0, 2, 3] };
    }
  }
}

// ---- programs
function compile(vertex, fragment) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, "#version 300 es\nprecision highp float;\n" + text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS))
      throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.bindAttribLocation(program, 0, "position");
  gl.bindAttribLocation(program, 1, "normal");
  gl.linkProgram(program);
  return { program, at: (name) => gl.getUniformLocation(program, name) };
}
const shadowProgram = compile(
  "in vec3 position; uniform mat4 camera, model;" +
  "void main() { gl_Position = camera * model * vec4(position, 1.); }", "void main() {}");
const program = compile(`
  in vec3 position, normal; uniform mat4 camera, model, light; out vec3 where, n, lit, own;
  void main() {
    own = position; where = (model * vec4(position, 1.)).xyz; n = mat3(model) * normal;
    lit = (light * vec4(where, 1.)).xyz * .5 + .5; gl_Position = camera * vec4(where, 1.);
  }`, `
  in vec3 where, n, lit, own; out vec4 color;
  uniform vec4 rgba; uniform vec3 eye, sun, center; uniform float cell, reach, span;
  uniform mediump sampler2DShadow shadow;
  float checker(vec2 p) { // filtered over a pixel, so that it does not shimmer
    vec2 w = fwidth(p) + 1e-4;
    vec2 i = 2. * (abs(fract((p - .5 * w) * .5) - .5) - abs(fract((p + .5 * w) * .5) - .5)) / w;
    return .5 - .5 * i.x * i.y;
  }
  void main() {
    vec3 normal = normalize(n), view = normalize(eye - where);
    if (dot(normal, view) < 0.) normal = -normal;
    float facing = dot(normal, sun), open = 0.;
    for (int x = -1; x <= 1; x++) for (int y = -1; y <= 1; y++)
      open += texture(shadow, lit + vec3(vec2(x, y) / 2048., -.0012 - .002 * (1. - facing))) / 9.;
    if (any(greaterThan(abs(lit - .5), vec3(.499)))) open = 1.;
    vec3 base = pow(rgba.rgb, vec3(2.2));
    float alpha = rgba.a, shine = .22;
    if (cell > 0.) {
      base *= mix(.80, 1., checker(own.xy / cell)); shine = .03;
      if (reach > 0.) alpha *= 1. - smoothstep(.25 * reach, reach, distance(where.xy, center.xy));
    }
    vec3 sky = mix(vec3(.22, .20, .19), vec3(.36, .40, .46), .5 + .5 * normal.z);
    float spark = pow(max(dot(normal, normalize(sun + view)), 0.), 40.) * shine;
    vec3 seen = base * (sky + open * max(facing, 0.) * vec3(.82, .78, .72)) + open * spark;
    color = vec4(pow(min(seen, 1.), vec3(1. / 2.2)) * alpha, alpha);
  }`);

const items = data.geoms.map((geom, index) => {
  const { vertices, triangles } = shape(geom), vao = gl.createVertexArray();
  gl.bindVertexArray(vao);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(vertices), gl.STATIC_DRAW);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(triangles), gl.STATIC_DRAW);
  for (const slot of [0, 1]) {
    gl.enableVertexAttribArray(slot);
    gl.vertexAttribPointer(slot, 3, gl.FLOAT, false, 24, 12 * slot);
  }
  return { ...geom, index, vao, count: triangles.length };
}).sort((a, b) => b.rgba[3] - a.rgba[3] || (a.type === "plane") - (b.type === "plane"));

const depth = gl.createTexture(), frame = gl.createFramebuffer();
gl.bindTexture(gl.TEXTURE_2D, depth);
gl.texStorage2D(gl.TEXTURE_2D, 1, gl.DEPTH_COMPONENT24, 2048, 2048);
gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_COMPARE_MODE, gl.COMPARE_REF_TO_TEXTURE);
gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.TEXTURE_2D, depth, 0);
gl.enable(gl.DEPTH_TEST);
gl.enable(gl.BLEND);
gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

// ---- what is shown
const wanted = new URLSearchParams(location.hash.slice(1)); // #t=1.5&episode=1 shows that, paused
let episode = data.episodes[Math.min(+(wanted.get("episode") || 0), data.episodes.length - 1)];
let time = +(wanted.get("t") || 0), playing = !wanted.has("t"), before = null;
const view = { ...data.camera, target: [...data.camera.target] };
const duration = () => (episode.frames - 1) * data.dt;

function posesAt(seconds) {
  const exact = Math.min(Math.max(seconds / data.dt, 0), episode.frames - 1);
  const one = Math.floor(exact), two = Math.min(one + 1, episode.frames - 1), part = exact - one;
  return data.geoms.map((_, g) => {
    const p = episode.poses.subarray(7 * (one * data.geoms.length + g)).subarray(0, 7);
    const q = episode.poses.subarray(7 * (two * data.geoms.length + g)).subarray(0, 7);
    const turned = p[3] * q[3] + p[4] * q[4] + p[5] * q[5] + p[6] * q[6] < 0 ? -1 : 1;
    const mixed = Array.from(p, (x, i) => x * (1 - part) + q[i] * part * (i > 2 ? turned : 1));
    return [...mixed.slice(0, 3), ...unit(mixed.slice(3))];
  });
}
function center(poses) { // of everything that moves, along the ground
  const moving = poses.filter((_, g) => !data.geoms[g].fixed), n = moving.length || 1;
  return [0, 1, 2].map((i) => i < 2 ? moving.reduce((sum, p) => sum + p[i], 0) / n : 0);
}
function draw() {
  const poses = posesAt(time), matrices = poses.map(pose);
  const shift = $("follow").checked ? center(poses) : [0, 0, 0];
  const target = along(view.target, shift, 1), sun = unit([-0.45, -0.6, 1.25]);
  const { azimuth: a, elevation: e, distance } = view;
  const back = [Math.cos(e) * Math.cos(a), Math.cos(e) * Math.sin(a), Math.sin(e)];
  const eye = along(target, back, distance), reach = 3.2 * data.span;
  const light = multiply(box(reach / 2, 4 * reach),
    lookAt(along(target, sun, 2 * reach), target, [0, 1, 0]));

  gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
  gl.viewport(0, 0, 2048, 2048);
  gl.clear(gl.DEPTH_BUFFER_BIT);
  gl.useProgram(shadowProgram.program);
  gl.uniformMatrix4fv(shadowProgram.at("camera"), false, light);
  for (const item of items) {
    if (item.type === "plane" || item.rgba[3] < 0.5) continue;
    gl.uniformMatrix4fv(shadowProgram.at("model"), false, matrices[item.index]);
    gl.bindVertexArray(item.vao);
    gl.drawElements(gl.TRIANGLES, item.count, gl.UNSIGNED_INT, 0);
  }

  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  gl.viewport(0, 0, w, h);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.useProgram(program.program);
  const camera = multiply(perspective(0.7, w / h, distance / 50, distance + 100 * data.span),
    lookAt(eye, target, [0, 0, 1]));
  gl.uniformMatrix4fv(program.at("camera"), false, camera);
  gl.uniformMatrix4fv(program.at("light"), false, light);
  gl.uniform3fv(program.at("eye"), eye);
  gl.uniform3fv(program.at("sun"), sun);
  gl.uniform3fv(program.at("center"), target);
  for (const item of items) {
    const plane = item.type === "plane", endless = plane && !item.size[0];
    gl.uniformMatrix4fv(program.at("model"), false, matrices[item.index]);
    gl.uniform4fv(program.at("rgba"), item.rgba);
    gl.uniform1f(program.at("cell"), plane ? data.cell : 0);
    gl.uniform1f(program.at("reach"), endless ? 12 * data.span : 0);
    gl.bindVertexArray(item.vao);
    gl.drawElements(gl.TRIANGLES, item.count, gl.UNSIGNED_INT, 0);
  }

  const index = Math.min(Math.round(time / data.dt), episode.frames - 1);
  const last = episode.returns[episode.frames - 1];
  $("return").textContent = `${episode.name}: return so far ${episode.returns[index].toFixed(2)}` +
    `, in the end ${last.toFixed(2)}${episode.note ? " (" + episode.note + ")" : ""}`;
  $("clock").textContent = `${time.toFixed(2)} / ${duration().toFixed(2)} s`;
  $("slider").value = time;
  $("play").textContent = playing ? "Pause" : "Play";
}
function tick(now) {
  if (playing && before !== null) {
    time += (now - before) / 1000 * +$("speed").value;
    if (time > duration() + 0.7) time = 0; // rest on the last frame, then begin anew
  }
  before = now;
  const shown = time;
  time = Math.min(time, duration());
  draw();
  time = shown;
  requestAnimationFrame(tick);
}

// ---- controls
data.episodes.forEach((entry, index) => $("episode").add(new Option(entry.name, index)));
$("episode").value = data.episodes.indexOf(episode);
$("episode").style.display = data.episodes.length > 1 ? "" : "none";
$("follow").checked = data.follow;
$("slider").max = duration();
$("episode").onchange = () => {
  episode = data.episodes[+$("episode").value];
  $("slider").max = duration();
};
const seek = (seconds) => { playing = false; time = Math.min(Math.max(seconds, 0), duration()); };
const toggle = () => { playing = !playing; if (playing && time >= duration()) time = 0; };
$("slider").oninput = () => seek(+$("slider").value);
$("play").onclick = (event) => { toggle(); event.target.blur(); };
window.onkeydown = ({ code, target }) => {
  if (target.tagName === "SELECT" || target.tagName === "INPUT" && code !== "Space") return;
  if (code === "Space" && target.tagName !== "BUTTON") toggle();
  if (code === "ArrowLeft") seek(time - data.dt);
  if (code === "ArrowRight") seek(time + data.dt);
};
const pointers = new Map();
canvas.oncontextmenu = (event) => event.preventDefault();
canvas.onpointerdown = (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
};
canvas.onpointerup = canvas.onpointercancel = (event) => pointers.delete(event.pointerId);
const zoom = (factor) => {
  view.distance = Math.min(Math.max(view.distance * factor, data.span / 20), 40 * data.span);
};
canvas.onpointermove = (event) => {
  const last = pointers.get(event.pointerId);
  if (!last) return;
  const dx = event.clientX - last.clientX, dy = event.clientY - last.clientY;
  if (pointers.size === 2) { // pinch
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
    const gap = (p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY) || 1;
    zoom(gap(last) / gap(event));
  } else if (event.buttons & 2 || event.shiftKey) {
    const scale = 0.73 * view.distance / canvas.clientHeight;
    const [s, c] = [Math.sin(view.azimuth), Math.cos(view.azimuth)], t = Math.sin(view.elevation);
    const up = [-c * t, -s * t, Math.cos(view.elevation)];
    view.target = along(along(view.target, [s, -c, 0], dx * scale), up, dy * scale);
  } else {
    view.azimuth -= dx * 0.006;
    view.elevation = Math.min(Math.max(view.elevation + dy * 0.006, -1.5), 1.56);
  }
  pointers.set(event.pointerId, event);
};
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(Math.sign(event.deltaY) * 0.1));
}, { passive: false });
requestAnimationFrame(tick);
