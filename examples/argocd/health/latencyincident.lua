-- Health of a LatencyIncident, which hangs below its policy in the tree. Argo CD judges an application by what it applies itself:
-- an incident colours its own node and no more.
local status = obj.status or {}
if status.phase == "Closed" then
  return { status = "Healthy", message = status.outcome or "closed" }
end
if status.escalation ~= nil then
  return { status = "Degraded", message = status.escalation }
end
return { status = "Progressing", message = (status.severity or "open") .. ", open" }
