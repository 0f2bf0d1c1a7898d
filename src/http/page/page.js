new EventSource("/api/v1/stream").addEventListener("status", (event) => {
  document.getElementById("state").textContent = JSON.parse(event.data).phase;
});
